"""mypt.json in an exported folder: which weights it holds, and how far it is from them; see docs/files.md."""

from mypt.schema.base import Record
from mypt.schema.files.manifest import FileHash
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import ExportDtype, Format


class ExportProof(Record):
    """How far an export is from its bundle.

    Attributes:
        weights: the largest difference of a weight that was read back: what rounding to the dtype made.
        program: what computed with the folder, with its version; None if it is not installed.
        outputs: the largest difference of a logit (hf), or of a log probability (gguf), from those of the bundle.
        tokens: how many most likely tokens were compared.
        same: how many of them were the same.
        notes: what else differs, a sentence each.
    """

    weights: float
    program: str | None = None
    outputs: float | None = None
    tokens: int = 0
    same: int = 0
    notes: tuple[str, ...] = ()


class ExportRecord(Record):
    """The file, in field order.

    Attributes:
        format: of the folder.
        architecture: its class in transformers, or its architecture in llama.cpp.
        with_code: whether the class is code in the folder.
        dtype: of the weights.
        bundle: name of the bundle that it was made of.
        run: name of the run that made that.
        run_id: id of the run; None for a bundle of none.
        step: step of the weights.
        val_loss: of these weights; None if they were not evaluated.
        weights_sha256: hash of the bundle's weights in fp32, independent of the file format.
        config: architecture of the bundle.
        proof: how far the folder is from the bundle.
        mypt: version that made it.
        exported_at: wall-clock time, ISO 8601.
        files: every other file of the folder.
    """

    format: Format
    architecture: str
    with_code: bool = False
    dtype: ExportDtype
    bundle: str
    run: str
    run_id: str | None
    step: int
    val_loss: float | None
    weights_sha256: str
    config: GPTConfig
    proof: ExportProof
    mypt: str
    exported_at: str
    files: dict[str, FileHash]
