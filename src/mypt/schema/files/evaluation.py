"""What an evaluation of a finished model found."""

from dataclasses import dataclass
from typing import Literal

from mypt.schema.settings.evaluation import EvaluatedSplit


@dataclass(kw_only=True)
class TextEvaluation:
    """What `mypt evaluate --json` prints of a text.

    Attributes:
        schema_version: grows when a field changes its meaning.
        bundle: its name.
        step: of its weights.
        weights_sha256: hash of its weights.
        text: the sources, or the folder of shards.
        split: of the shards; None for a text.
        sha256: hash of the text in UTF-8; of shards, their fingerprint.
        loss: nats per token.
        se: standard error of the loss, over windows; None for a single one.
        bpb: the loss in bits per byte of UTF-8; None where what the tokens mean is not known.
        perplexity: exponential of the loss; None where that is beyond all numbers.
        tokens: that were predicted, each exactly once.
        text_bytes: what they stand for.
    """

    schema_version: Literal[1] = 1
    bundle: str
    step: int
    weights_sha256: str
    text: str
    split: EvaluatedSplit | None
    sha256: str
    loss: float
    se: float | None
    bpb: float | None
    perplexity: float | None
    tokens: int
    text_bytes: int
    windows: int
    documents: int
