"""`mypt prepare`: converts text of any size to a dataset; calling it again continues an interrupted call."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mypt.checkpoint.atomic import storage_errors
from mypt.checkpoint.files import read_config, read_tokenizer
from mypt.checkpoint.layout import TOKENIZER_FILE, bundle_path
from mypt.checkpoint.lock import locked
from mypt.data.prepare import chat_notes, kinds
from mypt.data.prepare.claims import SPLITS, check_free, claim, differences, discard
from mypt.data.prepare.documents import FIRST_SKIPPED, read_pieces
from mypt.data.prepare.inputs import make_plan
from mypt.data.prepare.workers import Job, commit_json, read_unit_record, run_jobs
from mypt.data.shards import read_dataset_file, read_dataset_tokenizer
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, InputError, UsageError
from mypt.regular import expanded
from mypt.schema.files.dataset import METADATA_FILE, UNFINISHED, DatasetMetadata, ShardRecord, SplitRecord
from mypt.schema.files.prepare_plan import HashRecord, PreparePlan
from mypt.schema.files.state import SourceRecord
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.prepare import PrepareConfig

BPE_BYTES = 64 * 2**20
"""Text used to train a bpe vocabulary; more text changes it little and takes more memory."""

NO_USE = {
    "train": "There is no training split: nothing can be trained on this dataset, only measured (--eval-dataset-dir).",
    "val": "There is no validation split: `mypt train` needs one, and cannot use this dataset alone.",
}

Progress = Callable[[int, int], None]
"""Called with the bytes of input that are done and the total bytes."""


def prepare(
    inputs: Sequence[str], out: Path, config: PrepareConfig, progress: Progress, notice: Callable[[str], None]
) -> DatasetMetadata:
    """Make a dataset, or continue one that an interrupted call with the same arguments left unfinished.

    Args:
        inputs: files, folders and globs.
        out: folder of the dataset.
        config: settings.
        progress: called with the progress.
        notice: called with messages for the user.

    Raises:
        ConflictError: the folder has other content.
        InputError: an input is unusable, or a split would be empty.
    """
    out = expanded(out).absolute()
    if not out.name:
        raise ConflictError(f"{out} can be no dataset.", "Give the folder that is to be made with --out.")
    with locked(out, notice):
        check_free(out)
        plan = make_plan(inputs, config, out, notice).model_copy(update={"block_size": _block_size(config)})
        with storage_errors(out, "--out"):
            claim(out, plan, notice)
        try:
            for line in (*kinds.told(plan.sources), *_no_room(config)):
                notice(line)
            metadata = _make(out, plan, config.workers or os.cpu_count() or 1, progress)
            if changed := differences(plan, make_plan(inputs, config, out)):
                todo = "Remove the folder and call again."
                raise ConflictError("The inputs changed while they were read.", todo, changed)
        except UsageError:
            if not any(Job("unit", n).record_path(out).exists() for n in range(len(plan.units))):
                discard(out)  # no work is lost, and the next call can start over
            raise
        _check_splits(out, plan, metadata, notice)
        with storage_errors(out, "--out"):
            commit_json(out, out / METADATA_FILE, metadata)
        for line in (*_chat_lines(out, plan, metadata), *_skipped_lines(out, plan, metadata)):
            notice(line)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        return metadata


def _chat_lines(out: Path, plan: PreparePlan, metadata: DatasetMetadata) -> list[str]:
    notes = [note for n in range(len(plan.units)) if (note := read_unit_record(out, n).chat)]
    return chat_notes.told(notes, metadata, plan.block_size) if notes else []


def _skipped_lines(out: Path, plan: PreparePlan, metadata: DatasetMetadata) -> list[str]:
    if not metadata.skipped_rows:
        return []
    first = [fault for n in range(len(plan.units)) for fault in read_unit_record(out, n).skipped_first][:FIRST_SKIPPED]
    rows = "1 row was" if metadata.skipped_rows == 1 else f"{metadata.skipped_rows:,} rows were"
    return [f"{rows} left out by --skip-bad-rows, such as {fault}" for fault in first[:1]] + first[1:]


def _make(out: Path, plan: PreparePlan, workers: int, progress: Progress) -> DatasetMetadata:
    """Make the tokenizer, run the jobs that have no record yet, and combine the records."""
    if not (out / TOKENIZER_FILE).exists():
        tokenizer = _choose_tokenizer(plan).with_special()
        tokenizer = tokenizer.with_template() if plan.config.chat else tokenizer
        with storage_errors(out, "--out"):
            commit_json(out, out / TOKENIZER_FILE, tokenizer)
    jobs = [Job("source", n) for n in range(len(plan.sources))] + [Job("unit", n) for n in range(len(plan.units))]
    pending = [job for job in jobs if not _is_done(out, job)]
    total = sum(unit.bytes for unit in plan.units)
    done = total - sum(plan.units[job.number].bytes for job in pending if job.kind == "unit")

    def on_done(job: Job) -> None:
        nonlocal done
        done += plan.units[job.number].bytes if job.kind == "unit" else 0
        progress(done, total)

    done_before = done
    progress(done, total)
    run_jobs(
        out, pending, min(workers, len(plan.units)), on_done,
        lambda characters: progress(min(max(done, done_before + characters), total), total),
    )  # fmt: skip
    return _metadata(out, plan)


def _choose_tokenizer(plan: PreparePlan) -> TokenizerFile:
    config = plan.config
    if config.tokenizer_of is not None:
        folder = expanded(config.tokenizer_of)
        is_dataset = _is_dataset(folder)
        return read_dataset_tokenizer(folder) if is_dataset else read_tokenizer(bundle_path(config.tokenizer_of))
    if config.tokenization == "gpt2":
        return Tokenizer.gpt2().file
    if config.tokenization == "char":
        characters: set[str] = set()
        for text in _texts(plan):
            characters.update(text)
        return Tokenizer.char("".join(characters)).file
    return Tokenizer.train_bpe(_bpe_text(plan), config.bpe_vocab_size).file


def _block_size(config: PrepareConfig) -> int | None:
    """The window of the model that conversations are for, by whose tokenizer is used; None if it is no model's."""
    if not config.chat or config.tokenizer_of is None or _is_dataset(expanded(config.tokenizer_of)):
        return None
    return read_config(bundle_path(config.tokenizer_of)).block_size


def _no_room(config: PrepareConfig) -> list[str]:
    """A line on a model that cannot go on with shards of its own vocabulary, for want of special tokens in them."""
    if config.tokenizer_of is None or _is_dataset(expanded(config.tokenizer_of)):
        return []
    bundle = bundle_path(config.tokenizer_of)
    own, rows = read_tokenizer(bundle), read_config(bundle).vocab_size
    needed = own.with_special().vocab_size
    if needed <= rows or (not config.chat and END_OF_TEXT in own.special_ids):
        return []
    return [
        f"These shards are for new models: {config.tokenizer_of} knows {rows:,} tokens, and with the special tokens of "
        f"shards there are {needed:,}. Trained with --vocab-size {needed}, it could go on with them."
    ]


def _is_dataset(folder: Path) -> bool:
    return (folder / METADATA_FILE).is_file()


def _texts(plan: PreparePlan) -> Iterator[str]:
    for part in (part for unit in plan.units for part in unit.parts):
        for piece in read_pieces(plan, part):
            yield from piece.texts


def _bpe_text(plan: PreparePlan) -> str:
    """The first BPE_BYTES of text."""
    texts, size = [], 0
    for text in _texts(plan):
        texts.append(text)
        size += len(text.encode("utf-8"))
        if size >= BPE_BYTES:
            break
    return "".join(texts)


def _metadata(out: Path, plan: PreparePlan) -> DatasetMetadata:
    units = [read_unit_record(out, n) for n in range(len(plan.units))]
    hashes = [read_dataset_file(Job("source", n).record_path(out), HashRecord) for n in range(len(plan.sources))]
    tokenizer = read_dataset_tokenizer(out)
    return DatasetMetadata(
        dtype=tokenizer.dtype,
        tokenization=tokenizer.token_kind,
        vocab_size=tokenizer.vocab_size,
        separator=tokenizer.special_ids[END_OF_TEXT],
        masked=plan.config.chat,
        split="given" if plan.given else "hash",
        val_share=None if plan.given else plan.config.val_share,
        train=_split([unit.train for unit in units]),
        val=_split([unit.val for unit in units]),
        skipped_rows=sum(unit.skipped_rows for unit in units),
        sources=tuple(
            SourceRecord(path=source.path, bytes=source.bytes, sha256=record.sha256)
            for source, record in zip(plan.sources, hashes, strict=True)
        ),
    )


def _is_done(out: Path, job: Job) -> bool:
    """True if a job has a record and, for a unit, its shards exist."""
    if not job.record_path(out).exists():
        return False
    if job.kind == "source":
        return True
    record = read_unit_record(out, job.number)
    return all((out / shard.file).is_file() for shard in (record.train, record.val) if shard is not None)


def _split(shards: Sequence[ShardRecord | None]) -> SplitRecord:
    present = tuple(s for s in shards if s is not None)
    return SplitRecord(
        tokens=sum(s.tokens for s in present), documents=sum(s.documents for s in present), shards=present
    )


def _check_splits(out: Path, plan: PreparePlan, metadata: DatasetMetadata, notice: Callable[[str], None]) -> None:
    """Tell of a split that has no tokens, as was asked for.

    Raises:
        InputError: a split has none that was to have some; the dataset is removed.
    """
    share, empty = plan.config.val_share, {name for name in SPLITS if not getattr(metadata, name).tokens}
    hashed = {name for name, some in (("train", share < 1), ("val", share > 0)) if some}
    asked = {source.split for source in plan.sources} if plan.given else hashed
    if missing := sorted(empty & asked):
        skipped = _skipped_lines(out, plan, metadata)
        discard(out)
        if empty == {*SPLITS}:
            todo = "Give files with more in them than markers, newlines and the names of columns."
            raise InputError("There is no text in the inputs.", todo, skipped)
        other = "smaller" if missing == ["train"] else "larger"
        raise InputError(
            f"The inputs leave no token for {' and '.join(missing)}"
            + ("." if plan.given else f" at a val_share of {share}."),
            f"Give other texts for {missing[0]}: there is nothing in these."
            if plan.given
            else f"Give more documents, or a {other} --val-share, or texts for validation by --val-input.",
        )
    for name in sorted(empty):
        notice(NO_USE[name])
