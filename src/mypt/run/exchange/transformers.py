"""What transformers computes with an exported folder, against the model that the folder was made of."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from mypt.data.tokenizer import Tokenizer
from mypt.errors import ExportError
from mypt.model.network import Network

_PROMPT, _GREEDY = 12, 60
_TEXTS, _LENGTH = 50, 36
_CLOSE = 1e-4
"""Of the largest logit: what another order of additions in fp32 stays far below, and any exchanged weight above."""
_BUG = "Please report this as a bug, with config.json."


@dataclass(frozen=True)
class Computed:
    """What transformers computed.

    Attributes:
        program: with its version.
        outputs: the largest difference of a logit from those of the bundle.
        tokens: how many most likely tokens were compared.
        same: how many of them were the same.
    """

    program: str
    outputs: float
    tokens: int
    same: int


def is_installed() -> bool:
    """Whether folders can be proven."""
    return find_spec("transformers") is not None


@torch.no_grad()
def ask_transformers(folder: Path, bundle: Network, held: Network, tokenizer: Tokenizer, *, code: bool) -> Computed:
    """Load a folder as its users do, and compare logits, most likely tokens and the ids of texts.

    Args:
        folder: the export.
        bundle: the network of the bundle.
        held: the same with weights as the folder's dtype holds them; what computes otherwise than it is at fault.
        tokenizer: what the ids mean.
        code: whether the folder's own code, which is mypt's, is run.

    Raises:
        ExportError: transformers does not load it as a whole, or computes something else.
    """
    with _quiet() as transformers:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=code, dtype=torch.float32
        )
        if missing := [f"{kind} {', '.join(map(str, names))}" for kind, names in report.items() if names]:
            raise ExportError(f"transformers does not load {folder} as a whole: {'; '.join(missing)}.", _BUG)
        if tokenizer.kind != "ids":
            theirs = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=code)
            _check_texts(theirs, folder, tokenizer)
        ids, logits = _continued(model.eval(), held.config.block_size, held.config.vocab_size)
    own, exact = held.cpu().eval()(ids), bundle.cpu().eval()(ids)  # (1, T, V)
    difference = float((logits - own).abs().max())
    if not difference <= _CLOSE * max(1.0, float(own.abs().max())):
        raise ExportError(
            f"transformers computes something else with {folder}: a logit differs by {difference:.3g}.", _BUG
        )
    likeliest, found = own[0, :-1].argmax(-1)[_PROMPT - 1 :], ids[0, _PROMPT:]
    _check_greedy(own[0, :-1][_PROMPT - 1 :], found, 2 * difference, folder)
    outputs = float((logits - exact).abs().max())
    return Computed(f"transformers {version('transformers')}", outputs, len(found), int((likeliest == found).sum()))


def _continued(model: Any, size: int, rows: int) -> tuple[Tensor, Tensor]:
    """Some token ids and the most likely ones after them (1, T), as it generates them; and the logits of all."""
    prompt = min(_PROMPT, size)
    ids = torch.randint(rows, (1, prompt), generator=torch.Generator().manual_seed(0))
    if further := min(_GREEDY, size - prompt):
        ids = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=further, do_sample=False, pad_token_id=0,
            eos_token_id=None, suppress_tokens=None,
        )  # fmt: skip
    return ids, model(ids).logits


def _check_greedy(own: Tensor, found: Tensor, close: float, folder: Path) -> None:
    """Another token than mypt's may be the most likely one only where two are as close as both programs are."""
    behind = own.max(-1).values - own.gather(-1, found[:, None])[:, 0]
    if found.numel() and float(behind.max()) > close:
        raise ExportError(f"transformers finds another token likeliest with {folder} than mypt does.", _BUG)


def _check_texts(theirs: Any, folder: Path, tokenizer: Tokenizer) -> None:
    special, draw = {*tokenizer.file.special_ids.values()}, Random(0)
    ordinary = [i for i in range(tokenizer.vocab_size) if i not in special]
    for _ in range(_TEXTS):
        text = tokenizer.decode(draw.choices(ordinary, k=_LENGTH))
        if theirs(text, add_special_tokens=False).input_ids != tokenizer.encode(text).tolist():
            raise ExportError(
                f"transformers reads {text[:40]!r} as other tokens with {folder} than mypt does.",
                "Please report this as a bug, with tokenizer.json.",
            )


@contextmanager
def _quiet() -> Iterator[Any]:
    """Transformers without its warnings and bars, which are about other uses than this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            yield transformers
        finally:
            transformers.logging.set_verbosity(level)
            if bars:
                transformers.logging.enable_progress_bar()
