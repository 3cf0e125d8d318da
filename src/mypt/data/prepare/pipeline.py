"""`mypt prepare`: texts of any size to a dataset on disk; an interrupted call is continued by the next."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mypt.checkpoint.atomic import storage_errors
from mypt.checkpoint.files import read_tokenizer
from mypt.checkpoint.layout import TOKENIZER_FILE, bundle_path
from mypt.checkpoint.lock import locked
from mypt.data.prepare.documents import read_pieces
from mypt.data.prepare.inputs import make_plan
from mypt.data.prepare.shard_writer import UNFINISHED, dtype_of
from mypt.data.prepare.workers import PLAN_FILE, Job, commit_json, open_shop, run_jobs
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, InputError, UsageError
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, ShardRecord, SplitRecord
from mypt.schema.files.state import SourceRecord
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.prepare import HashRecord, PrepareConfig, PreparePlan, UnitRecord

BPE_BYTES = 64 * 2**20
"""Text that a bpe vocabulary is trained on; more changes little in it and takes memory."""

Progress = Callable[[int, int], None]
"""Told the bytes of input that are done, and those in all."""


def prepare(
    inputs: Sequence[str], out: Path, config: PrepareConfig, progress: Progress, notice: Callable[[str], None]
) -> DatasetMetadata:
    """Make a dataset, or go on with one that an earlier call of the same kind left unfinished.

    Args:
        inputs: files, folders and globs.
        out: the dataset's folder.
        config: the settings.
        progress: told how far the work is.
        notice: told what the user should know beside.

    Raises:
        ConflictError: the folder holds something else.
        InputError: an input is unusable, or a split would be empty.
    """
    out = out.expanduser().absolute()
    with locked(out, notice):
        _check_free(out)
        plan = make_plan(inputs, config)
        with storage_errors(out, "--out"):
            _claim(out, plan)
        try:
            metadata = _make(out, plan, config.workers or os.cpu_count() or 1, progress)
            _check_unchanged(plan, make_plan(inputs, config))
        except UsageError:
            if not any(Job("unit", n).record(out).exists() for n in range(len(plan.units))):
                shutil.rmtree(out, ignore_errors=True)  # no work is lost, and nothing stands in the next call's way
            raise
        _check_splits(out, metadata)
        with storage_errors(out, "--out"):
            commit_json(out, out / METADATA_FILE, metadata)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        return metadata


def _check_free(out: Path) -> None:
    todo = "Choose another folder with --out, or move this one away."
    if (out / METADATA_FILE).exists():
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        raise ConflictError(f"{out} holds a complete dataset already.", todo)
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file, not a folder.", todo)
    if out.is_dir() and not (out / UNFINISHED).is_dir() and any(out.iterdir()):
        raise ConflictError(f"{out} is not empty, and what is in it is not an unfinished dataset.", todo)


def _claim(out: Path, plan: PreparePlan) -> None:
    """Make the folder this plan's, or see that it is.

    Raises:
        ConflictError: it is another plan's.
    """
    plan_file = out / UNFINISHED / PLAN_FILE
    if plan_file.exists():
        begun = PreparePlan.model_validate_json(plan_file.read_bytes())
        if differences := _differences(begun, plan):
            raise ConflictError(
                f"{out} holds an unfinished dataset that another call began.",
                "Repeat that call to finish it, choose another --out, or remove the folder to start over.",
                differences,
            )
        return
    for name in (UNFINISHED, "train", "val"):
        (out / name).mkdir(parents=True, exist_ok=True)
    commit_json(out, plan_file, plan)


def _differences(begun: PreparePlan, now: PreparePlan) -> list[str]:
    """One line for each way in which two plans would give different datasets."""
    lines = [
        f"{name} was {begun.settings.get(name)} and is {value} now."
        for name, value in now.settings.items()
        if begun.settings.get(name) != value
    ]
    old, new = ({source.path: source for source in plan.sources} for plan in (begun, now))
    lines += [f"{path} was an input and is none now." for path in old if path not in new]
    lines += [f"{path} is an input now and was none." for path in new if path not in old]
    lines += [f"{path} has been changed since." for path in old if path in new and old[path] != new[path]]
    if not lines and begun.units != now.units:
        lines.append("The inputs are cut in another way by this version of mypt.")
    return lines


def _check_unchanged(plan: PreparePlan, now: PreparePlan) -> None:
    if differences := _differences(plan, now):
        raise ConflictError(
            "The inputs changed while they were read.", "Remove the folder and call again.", differences
        )


def _make(out: Path, plan: PreparePlan, workers: int, progress: Progress) -> DatasetMetadata:
    """Tokenizer, then every job that has no record yet, then the sum of the records."""
    tokenizer_file = out / TOKENIZER_FILE
    if not tokenizer_file.exists():
        tokenizer = _choose_tokenizer(plan).with_special()
        with storage_errors(out, "--out"):
            commit_json(out, tokenizer_file, tokenizer)
    jobs = [Job("source", n) for n in range(len(plan.sources))] + [Job("unit", n) for n in range(len(plan.units))]
    left = [job for job in jobs if not _is_done(out, job)]
    total = sum(unit.bytes for unit in plan.units)
    done = total - sum(plan.units[job.number].bytes for job in left if job.kind == "unit")

    def finished(job: Job) -> None:
        nonlocal done
        done += plan.units[job.number].bytes if job.kind == "unit" else 0
        progress(done, total)

    begun = done
    progress(done, total)
    run_jobs(
        out, left, min(workers, len(plan.units)), finished, lambda n: progress(min(max(done, begun + n), total), total)
    )
    return _summed_up(out, plan)


def _choose_tokenizer(plan: PreparePlan) -> TokenizerFile:
    config = plan.config
    if config.tokenizer_of is not None:
        return _tokenizer_of(config.tokenizer_of)
    if config.tokenization == "gpt2":
        return Tokenizer.gpt2().file
    if config.tokenization == "char":
        return Tokenizer.char("".join(set().union(*_texts(plan)))).file
    return Tokenizer.train_bpe(_beginning(plan), config.bpe_vocab_size).file


def _tokenizer_of(name: str) -> TokenizerFile:
    """The tokenizer of a dataset's folder, or of a bundle by name or path."""
    folder = Path(name).expanduser()
    if (folder / METADATA_FILE).is_file():
        return TokenizerFile.model_validate_json((folder / TOKENIZER_FILE).read_bytes())
    return read_tokenizer(bundle_path(name))


def _texts(plan: PreparePlan) -> Iterator[str]:
    for part in (part for unit in plan.units for part in unit.parts):
        for piece in read_pieces(plan.sources[part.source], part, plan.config):
            yield from (turn.text for turn in piece.turns)


def _beginning(plan: PreparePlan) -> str:
    """The first texts, up to what a vocabulary is trained on."""
    texts, size = [], 0
    for text in _texts(plan):
        texts.append(text)
        size += len(text.encode("utf-8"))
        if size >= BPE_BYTES:
            break
    return "".join(texts)


def _summed_up(out: Path, plan: PreparePlan) -> DatasetMetadata:
    units = [UnitRecord.model_validate_json(_content(out, Job("unit", n))) for n in range(len(plan.units))]
    hashes = [HashRecord.model_validate_json(_content(out, Job("source", n))) for n in range(len(plan.sources))]
    tokenizer = open_shop(out).tokenizer.file
    return DatasetMetadata(
        dtype="uint16" if dtype_of(tokenizer.vocab_size).itemsize == 2 else "uint32",
        tokenization=tokenizer.token_kind,
        vocab_size=tokenizer.vocab_size,
        separator=tokenizer.special_ids[END_OF_TEXT],
        masked=plan.config.chat,
        val_share=plan.config.val_share,
        train=_split([unit.train for unit in units]),
        val=_split([unit.val for unit in units]),
        sources=tuple(
            SourceRecord(path=source.path, bytes=source.bytes, sha256=found.sha256)
            for source, found in zip(plan.sources, hashes, strict=True)
        ),
    )


def _is_done(out: Path, job: Job) -> bool:
    """Whether a job has left its record and, if it is a unit, its shards are still there."""
    if not job.record(out).exists():
        return False
    if job.kind == "source":
        return True
    record = UnitRecord.model_validate_json(_content(out, job))
    return all((out / shard.file).is_file() for shard in (record.train, record.val) if shard is not None)


def _content(out: Path, job: Job) -> bytes:
    return job.record(out).read_bytes()


def _split(shards: Sequence[ShardRecord | None]) -> SplitRecord:
    held = tuple(shard for shard in shards if shard is not None)
    return SplitRecord(tokens=sum(s.tokens for s in held), documents=sum(s.documents for s in held), shards=held)


def _check_splits(out: Path, metadata: DatasetMetadata) -> None:
    """Make sure that both splits have tokens, or leave nothing.

    Raises:
        InputError: naming the one that has none.
    """
    empty = [name for name, split in (("train", metadata.train), ("val", metadata.val)) if not split.tokens]
    if empty:
        shutil.rmtree(out, ignore_errors=True)
        raise InputError(
            f"The inputs leave no token for {' and '.join(empty)} at a val_share of {metadata.val_share}.",
            f"Give more documents, or a {'smaller' if empty == ['train'] else 'larger'} --val-share.",
        )
