"""`mypt verify`: every check of a bundle that needs no training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.layout import MODEL_FILE, OPTIMIZER_FILE, log_of
from mypt.checkpoint.manifest import MANIFEST_FILE, check_file, read_manifest
from mypt.checkpoint.tensors import load_tensors
from mypt.errors import InputError, MyptError
from mypt.log.replay import live_evals
from mypt.model.network import Network
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.session import apply_settings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Check:
    """One check and what it found.

    Attributes:
        bundle: name of the bundle.
        name: what was checked.
        ok: True if it holds, False if not, None if it could not be checked.
        found: what was found, for people.
    """

    bundle: str
    name: str
    ok: bool | None
    found: str


class _FaultError(Exception):
    """A check does not hold."""


class _UncheckedError(Exception):
    """A check cannot be made, and that is no fault."""


def verify_bundle(path: Path) -> list[Check]:
    """Check a bundle's files, schema, tensors, tokenizer, optimizer and log, each on its own."""
    checks: dict[str, Callable[[Path], str]] = {
        "files": _files,
        "schema": _schema,
        "weights fit config": _weights,
        "values are finite": _finite,
        "tokenizer fits weights": _tokenizer,
        "optimizer fits model": _optimizer,
        "step fits log": _log,
        "gold fits record": _gold,
    }
    return read_consistently(lambda path: [_run(path, name, check) for name, check in checks.items()], path)


def _run(path: Path, name: str, check: Callable[[Path], str]) -> Check:
    try:
        return Check(path.name, name, True, check(path))
    except _UncheckedError as reason:
        return Check(path.name, name, None, str(reason))
    except MyptError as error:
        return Check(path.name, name, False, error.what.removesuffix("."))
    except _FaultError as fault:
        return Check(path.name, name, False, str(fault))
    except (
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        return Check(path.name, name, False, f"it cannot be made sense of: {type(error).__name__}: {error}")


def _files(path: Path) -> str:
    manifest = read_manifest(path)
    for name in manifest.files:
        check_file(path / name)
    unknown = sorted({p.name for p in path.iterdir()} - manifest.files.keys() - {MANIFEST_FILE})
    if unknown:
        raise _FaultError(f"{', '.join(unknown)} did not come with the bundle")
    return f"{len(manifest.files)} files, {sum(f.bytes for f in manifest.files.values()):,} bytes, as they were saved"


def _schema(path: Path) -> str:
    read_config(path)
    read_tokenizer(path)
    return f"step {read_state(path).step}"


def _weights(path: Path) -> str:
    weights, dtype = load_tensors(path / MODEL_FILE), DTYPES[read_state(path).model_dtype]
    with torch.device("meta"):
        model = Network(read_config(path))
    expected = {n: w.shape for n, w in model.state_dict().items()}
    wrong = [f"{n} is missing" for n in expected.keys() - weights.keys()]
    wrong += [f"{n} is not part of the model" for n in weights.keys() - expected.keys()]
    for name in expected.keys() & weights.keys():
        if weights[name].shape != expected[name]:
            wrong.append(f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(expected[name])}")
        if weights[name].dtype != dtype:
            wrong.append(f"{name} is {weights[name].dtype} instead of {dtype}")
    if wrong:
        raise _FaultError("; ".join(sorted(wrong)[:5]))
    return f"{len(weights)} tensors in {read_state(path).model_dtype}"


def _finite(path: Path) -> str:
    tensors = _named_tensors(load_tensors(path / MODEL_FILE))
    if read_state(path).optimizer_file:
        tensors |= _named_tensors(load_tensors(path / OPTIMIZER_FILE), "optimizer")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise _FaultError(f"{name} holds {tensor[~torch.isfinite(tensor)].flatten()[0].item()}")
    return f"{sum(t.numel() for t in tensors.values()):,} values"


def _tokenizer(path: Path) -> str:
    tokenizer, config, state = read_tokenizer(path), read_config(path), read_state(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise _FaultError(f"{tokenizer.vocab_size} tokens, but the weights know {config.vocab_size}")
    if state.data is not None and state.data.tokenization != tokenizer.token_kind:
        raise _FaultError(f"it is {tokenizer.token_kind}, but the data were {state.data.tokenization}")
    return f"{tokenizer.token_kind}, {tokenizer.vocab_size} of {config.vocab_size} rows used"


def _optimizer(path: Path) -> str:
    if read_state(path).optimizer_file is None:
        raise _UncheckedError("an export has none")
    with torch.device("meta"):
        model = Network(read_config(path))
    training = read_state(path).training_config
    apply_settings(model, training)
    states = load_tensors(path / OPTIMIZER_FILE)["optimizer"]
    try:
        build_optimizer(model, training).load_state_dict(states)
    except (KeyError, TypeError, ValueError) as error:
        raise _FaultError(str(error)) from error
    return f"{len(states['state'])} states"


def _log(path: Path) -> str:
    state = read_state(path)
    log = log_of(path, state)
    if log is None or state.run_id is None:
        raise _UncheckedError("the run kept no log")
    if not log.is_file():
        raise _UncheckedError(f"{log} is not here")
    try:
        losses = [e["val_loss"] for e in live_evals(log, state.run_id) if e["iter"] <= state.step]
    except InputError as error:
        raise _UncheckedError(error.what.rstrip(".")) from error
    if not losses or state.progress.last_val_loss is None:
        raise _UncheckedError("no evaluation was logged yet")
    recorded = round(state.progress.last_val_loss, 6)
    if recorded not in losses:
        raise _FaultError(f"{log} has no val loss of {recorded} up to step {state.step}")
    best = min(losses)
    if state.progress.best_val_loss is not None and round(state.progress.best_val_loss, 6) > best:
        raise _FaultError(f"{log} has a better val loss, {best}, than the recorded best")
    return f"{len(losses)} evaluations up to step {state.step}"


def _gold(path: Path) -> str:
    gold, own = read_state(path).progress.gold, read_state(path)
    if gold.step is None:
        raise _UncheckedError("no evaluation became gold")
    if own.optimizer_file is None:
        raise _UncheckedError("an export has none of its own")
    kept = path if path.name.endswith("_gold") else path.with_name(f"{path.name}_gold")
    if not kept.exists():
        raise _UncheckedError(f"{kept} is not here")
    there = read_state(kept)
    if (there.run_id, there.step, there.progress.last_val_loss) != (own.run_id, gold.step, gold.val_loss):
        raise _FaultError(f"{kept} is of step {there.step}, and the record says step {gold.step}")
    return f"step {gold.step}, val loss {gold.val_loss:.6f}"


def _named_tensors(node: object, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return {prefix: node} if node.is_floating_point() else {}
    found: dict[str, torch.Tensor] = {}
    if isinstance(node, dict):
        for key, value in node.items():
            found |= _named_tensors(value, f"{prefix}.{key}" if prefix else str(key))
    return found
