"""`mypt prepare`: converts text of any size to a dataset; calling it again continues an interrupted call."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mypt.checkpoint.atomic import storage_errors
from mypt.checkpoint.files import read_config, read_tokenizer
from mypt.checkpoint.layout import TOKENIZER_FILE, bundle_path
from mypt.checkpoint.lock import locked
from mypt.data.prepare import chat_notes, kinds
from mypt.data.prepare.documents import read_pieces
from mypt.data.prepare.inputs import make_plan
from mypt.data.prepare.workers import PLAN_FILE, Job, commit_json, read_plan, read_unit_record, run_jobs
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

SPLITS = ("train", "val")

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
        _check_free(out)
        plan = make_plan(inputs, config, out, notice).model_copy(update={"block_size": _block_size(config)})
        with storage_errors(out, "--out"):
            _claim(out, plan)
        for line in kinds.told(plan.sources):
            notice(line)
        try:
            metadata = _make(out, plan, config.workers or os.cpu_count() or 1, progress)
            if differences := _differences(plan, make_plan(inputs, config, out)):
                todo = "Remove the folder and call again."
                raise ConflictError("The inputs changed while they were read.", todo, differences)
        except UsageError:
            if not any(Job("unit", n).record_path(out).exists() for n in range(len(plan.units))):
                _discard(out)  # no work is lost, and the next call can start over
            raise
        _check_splits(out, plan, metadata, notice)
        with storage_errors(out, "--out"):
            commit_json(out, out / METADATA_FILE, metadata)
        for line in _chat_lines(out, plan, metadata):
            notice(line)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        return metadata


def _chat_lines(out: Path, plan: PreparePlan, metadata: DatasetMetadata) -> list[str]:
    notes = [note for n in range(len(plan.units)) if (note := read_unit_record(out, n).chat)]
    return chat_notes.told(notes, metadata, plan.block_size) if notes else []


def _check_free(out: Path) -> None:
    todo, begun = "Choose another folder with --out, or move this one.", (out / UNFINISHED / PLAN_FILE).is_file()
    if (out / METADATA_FILE).exists():
        if begun:
            shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        raise ConflictError(f"{out} holds a complete dataset already.", todo)
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file, not a folder.", todo)
    if out.is_dir() and not begun and any(p.is_file() and p.name != f"{PLAN_FILE}.writing" for p in out.rglob("*")):
        raise ConflictError(f"{out} is not empty, and what is in it is not an unfinished dataset.", todo)


def _discard(out: Path) -> None:
    """Remove what calls have written, and nothing that someone laid beside it."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    for file in (out / TOKENIZER_FILE, *(shard for split in SPLITS for shard in (out / split).glob("*.bin"))):
        file.unlink(missing_ok=True)
    for folder in (*(out / split for split in SPLITS), out):
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _claim(out: Path, plan: PreparePlan) -> None:
    """Write the plan into the folder, or check that the folder already has the same plan."""
    plan_file = out / UNFINISHED / PLAN_FILE
    if plan_file.exists():
        if differences := _differences(read_plan(out), plan):
            raise ConflictError(
                f"{out} holds an unfinished dataset that another call began.",
                "Repeat that call to finish it, choose another --out, or remove the folder to start over.",
                differences,
            )
        return
    for name in (UNFINISHED, *SPLITS):
        (out / name).mkdir(parents=True, exist_ok=True)
    commit_json(out, plan_file, plan)


def _differences(old: PreparePlan, new: PreparePlan) -> list[str]:
    differences = [
        f"{name} was {old.settings.get(name)} and is {value} now."
        for name, value in new.settings.items()
        if old.settings.get(name) != value
    ]
    before, after = ({source.path: source for source in plan.sources} for plan in (old, new))
    differences += [f"{path} was an input and is none now." for path in before if path not in after]
    differences += [f"{path} is an input now and was none." for path in after if path not in before]
    for path in (path for path in before if path in after):
        was, now = before[path], after[path]
        if was.split != now.split:
            differences.append(f"{path} was in {was.split or 'both'} and is in {now.split or 'both'} now.")
        if was != now.model_copy(update={"split": was.split}):
            differences.append(f"{path} has been changed since.")
    if not differences and old.units != new.units:
        differences.append("This version of mypt divides the inputs in a different way.")
    return differences


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
        _discard(out)
        raise InputError(
            f"The inputs leave no token for {' and '.join(missing)}"
            + ("." if plan.given else f" at a val_share of {share}."),
            f"Give more documents, or a {'smaller' if missing == ['train'] else 'larger'} --val-share, or texts for "
            "validation by --val-input.",
        )
    for name in sorted(empty):
        notice(NO_USE[name])
