"""Whether the recorded inputs of a run are what they were, each of their files read whole, where they are here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mypt.data.integrity import Reading, changed_files, content_hash, metadata_hash, quietly
from mypt.data.shards import open_shards
from mypt.data.text import STDIN, is_sample, read_sources
from mypt.errors import UsageError
from mypt.schema.files.state import DataRecord, SourceRecord, TrainingState


@dataclass
class Unchanged:
    """What was found of one or more inputs.

    Attributes:
        files: files that are as they were recorded.
        bytes: their size.
        faults: a message for each that is not.
        unread: what could not be read whole, and why.
    """

    files: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass
class DataChecks:
    """Checks the inputs of one bundle after another, and reads what several have in common once.

    Attributes:
        reading: notified of each file before it is read.
    """

    reading: Reading = quietly
    _known: dict[str, Unchanged] = field(default_factory=dict)

    def of(self, state: TrainingState) -> Unchanged:
        """What there is of the inputs of a record: the primary set, the phases, the eval sets."""
        total, seen = Unchanged(), set()
        for record in _records(state):
            key = repr(record)
            if key in seen:
                continue
            seen.add(key)
            found = self._known[key] = self._known.get(key) or self._check(record)
            total.files, total.bytes = total.files + found.files, total.bytes + found.bytes
            total.faults += [fault for fault in found.faults if fault not in total.faults]
            total.unread += [left for left in found.unread if left not in total.unread]
        return total

    def _check(self, record: DataRecord) -> Unchanged:
        found = Unchanged()
        if record.dataset_dir is not None:
            self._shards(record, Path(record.dataset_dir), found)
        elif not record.sources:
            found.unread.append("a text from memory")
        for source in record.sources if record.dataset_dir is None else ():
            self._source(source, found)
        return found

    def _source(self, source: SourceRecord, found: Unchanged) -> None:
        path = source.path
        if path == STDIN or "://" in path or not (is_sample(path) or Path(path).exists()):
            found.unread.append("standard input" if path == STDIN else f"{path}, which is not here")
            return
        self.reading(Path(path))
        try:
            (now,) = (found.record for found in read_sources([] if is_sample(path) else [path], source.bytes))
        except UsageError as error:
            found.faults.append(error.what.rstrip("."))
            return
        if now.path != path:
            found.unread.append(f"{path}, which this version of Python does not have")
        elif now.sha256 != source.sha256:
            found.faults.append(f"{path} was changed since the run recorded it")
        else:
            found.files, found.bytes = found.files + 1, found.bytes + now.bytes

    def _shards(self, record: DataRecord, folder: Path, found: Unchanged) -> None:
        if not folder.exists():
            found.unread.append(f"{folder}, which is not here")
            return
        try:
            shards = open_shards(folder, eval_only=record.train_tokens == 0)
        except UsageError as error:
            found.faults.append(error.what.rstrip("."))
            return
        faults = [problem.rstrip(".") for problem in changed_files(shards, self.reading)]
        if shards.fingerprint != record.fingerprint:
            faults.append(f"the shards in {folder} are not those that the run recorded")
        elif record.sample_sha256 not in (None, shards.sample):
            faults = faults or [f"a sample of the shards in {folder} is not what the run recorded"]
        if record.metadata_sha256 not in (None, metadata_hash(shards)):
            names = " and ".join(path.name for path in shards.described_by) or "its vocabulary"
            faults.append(f"{names} of {folder} are not as the run recorded them")
        if shards.metadata is None:
            if record.content_sha256 is None:
                found.unread.append(f"{folder} but for a sample, as no hash of the whole was recorded")
            elif not faults and content_hash(shards, self.reading) != record.content_sha256:
                faults.append(f"the shards in {folder} were changed since the run recorded them")
        found.faults += faults
        if not faults:
            found.files, found.bytes = len(shards.files), sum(f.path.stat().st_size for f in shards.files)


def _records(state: TrainingState) -> Iterator[DataRecord]:
    if state.data is not None:
        yield state.data
    yield from (phase.data for phase in state.curriculum)
    yield from state.eval_sets.values()
