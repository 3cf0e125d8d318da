"""`mypt evaluate`: measures any bundle on a whole text or on shards, and records it in the log of its run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.manager import CheckpointManager, Loaded, weights_sha256
from mypt.checkpoint.manifest import hash_of_weights, read_manifest
from mypt.data.documents import Corpus, shard_corpus, text_corpus
from mypt.log.locate import check_appendable, own_log
from mypt.log.replay import has_run
from mypt.log.writer import RunLog
from mypt.model.network import Network
from mypt.run.exchange.tasks import check_tasks, run_tasks
from mypt.schema.files.events import METRIC, Evaluation, timestamp
from mypt.schema.settings.evaluation import EvaluateConfig
from mypt.train.device.devices import resolve_device
from mypt.train.evaluation.rolling import measure_documents


@dataclass(kw_only=True, frozen=True)
class Evaluated:
    """What `mypt evaluate --json` prints.

    Attributes:
        schema_version: grows when a field changes its meaning.
        log: the log that has it now; None if the bundle has none.
        evaluations: the events, in order.
    """

    schema_version: Literal[1] = 1
    log: Path | None = None
    evaluations: list[Evaluation]


@dataclass(frozen=True)
class Subject:
    """The bundle that is measured, as it was when it was loaded."""

    path: Path
    loaded: Loaded[Network]
    model_sha256: str


def evaluate(
    name: str, out_dir: Path, config: EvaluateConfig, device: str, progress: Callable[[str], None] = lambda _: None
) -> Evaluated:
    """Measure a bundle, and append what was found to the log of its run.

    Args:
        name: of the bundle, or its path.
        out_dir: folder of all bundles.
        config: what to measure on.
        device: where to compute.
        progress: told now and then, in words, how far it is.

    Raises:
        UsageError: there is no such bundle, or the text cannot be read or has what the tokenizer does not know.
        BundleError: the bundle is damaged.
        DivergedError: the loss is not finite.
        StorageError: the log cannot be written.
    """
    path, device = CheckpointManager.find(name, out_dir).path, resolve_device(device)
    if config.task_names:
        check_tasks(config.task_names)
    subject = _load(path, device)
    log = _log(subject)
    if config.task_names:
        found = Evaluated(evaluations=_on_tasks(subject, config.task_names, device))
    else:
        found = Evaluated(evaluations=[_on_text(subject, config, progress)])
    if log is not None:
        _record(subject, found.evaluations, log)
    return replace(found, log=log)


def _load(path: Path, device: str) -> Subject:
    """A bundle and the recorded hash of its weights, both of one save while a run goes on."""

    def read(path: Path) -> Subject:
        sha256 = hash_of_weights(read_manifest(path))
        return Subject(path, CheckpointManager.at(path).load(device), sha256)

    return read_consistently(read, path)


def _on_text(subject: Subject, config: EvaluateConfig, progress: Callable[[str], None]) -> Evaluation:
    began, loaded = time.perf_counter(), subject.loaded
    corpus = _corpus(loaded, config)
    of = f" of {corpus.tokens:,}" if corpus.tokens else ""
    found = measure_documents(
        loaded.model, corpus.documents, _prefix(loaded), lambda done: progress(f"Evaluating: {done:,}{of} tokens")
    )
    return Evaluation(
        **_named(subject, time.perf_counter() - began),
        kind="text" if config.dataset_dir is None else "shards", source=corpus.name,
        split=None if config.dataset_dir is None else config.split, sha256=corpus.sha256, loss=found.loss, se=found.se,
        bpb=found.bpb, perplexity=found.perplexity, tokens=found.tokens, text_bytes=found.text_bytes,
        windows=found.windows, block_size=loaded.model.config.block_size, documents=found.documents,
    )  # fmt: skip


def _on_tasks(subject: Subject, tasks: list[str], device: str) -> list[Evaluation]:
    began = time.perf_counter()
    results = run_tasks(subject.loaded, tasks, _prefix(subject.loaded), device)
    named = _named(subject, time.perf_counter() - began)
    return [
        Evaluation(
            **named, kind="task", source=result.name, sha256=result.sha256, samples=result.samples,
            **{METRIC + name: value for name, value in result.metrics.items()},
        )
        for result in results
    ]  # fmt: skip


def _named(subject: Subject, seconds: float) -> dict[str, Any]:
    """What an event says of the weights that were measured."""
    return {
        "iter": subject.loaded.state.step, "timestamp": timestamp(), "duration_s": seconds, "bundle": subject.path.name,
        "weights_sha256": weights_sha256(subject.loaded.model), "model_sha256": subject.model_sha256,
    }  # fmt: skip


def _prefix(loaded: Loaded[Network]) -> int:
    """The token that a document begins after."""
    return loaded.tokenizer.prompt_ids("", loaded.state.start_token)[-1]


def _corpus(loaded: Loaded[Network], config: EvaluateConfig) -> Corpus:
    if config.dataset_dir is None:
        return text_corpus(config.input_file, loaded.tokenizer, config.text_field)
    return shard_corpus(config.dataset_dir, config.split, loaded.tokenizer, loaded.model.config.vocab_size)


def _log(subject: Subject) -> Path | None:
    """The log of a bundle's run, if it is there.

    Raises:
        ConflictError: it is something else than a log.
    """
    log = own_log(subject.path)
    if log is None or not has_run(log, subject.loaded.state.run_id):
        return None
    check_appendable(log)
    return log


def _record(subject: Subject, events: list[Evaluation], log: Path) -> None:
    """Append events to the log of a bundle's run.

    No lock is asked for: the run that trains has it, and a line that is appended at once disturbs no other. The events
    carry the session of the bundle, so that a later one that went back behind it supersedes them as it does the bundle.
    """
    state = subject.loaded.state
    writer = RunLog(log, state.run_id, state.attempt)
    for event in events:
        writer.append(event)
