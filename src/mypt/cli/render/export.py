"""What is said of an export for other programs, and what can be done with it."""

from typing import TYPE_CHECKING

from mypt import units
from mypt.checkpoint.layout import command

if TYPE_CHECKING:
    from mypt.run.exchange.export import Exported

_MISSING = {
    "hf": "transformers is not installed, so nothing was computed with it: pip install 'mypt[hf]'",
    "gguf": "llama.cpp is not installed, so nothing was computed with it: pip install 'mypt[gguf]'",
}
_OUTPUTS = {"hf": "logit", "gguf": "log probability"}


def export_lines(exported: "Exported") -> list[str]:
    """What was exported, how near it is to the bundle, and how it is opened."""
    record, path = exported.record, exported.path
    size = units.size(sum(file.bytes for file in record.files.values()))
    loss = "" if record.val_loss is None else f", val loss {record.val_loss:.4f}"
    return [
        *([f"{exported.better}; gold is exported (--bundle last for the other)."] if exported.better else []),
        f"Exported {path.as_posix()}",
        f"  of: {record.bundle}, step {record.step:,}{loss}",
        f"  as: {record.architecture}, {record.dtype}, {size} in {len(record.files) + 1} files",
        *_proof_lines(exported),
        *(f"  ⚠️  {note}" for note in record.proof.notes),
        "Next:",
        *_next(exported),
    ]


def _proof_lines(exported: "Exported") -> list[str]:
    record, proof = exported.record, exported.record.proof
    largest = "equal to the bit" if not proof.weights else f"the largest difference is {proof.weights:.3g}"
    lines = [f"  weights read back: {largest}"]
    if proof.program is None or proof.outputs is None:
        return [*lines, f"  not proven further: {_MISSING[record.format]}"]
    what = _OUTPUTS[record.format]
    return [
        *lines,
        f"  {proof.program}: a {what} differs by at most {proof.outputs:.3g}, "
        f"{proof.same} of {proof.tokens} likeliest tokens are the same",
    ]


def _next(exported: "Exported") -> list[str]:
    record, folder = exported.record, exported.path.as_posix()
    if record.format == "gguf":
        file = next((name for name in record.files if name.endswith(".gguf")), "")
        opened = [f"  llama-cli -m {folder}/{file} -c {record.config.block_size}"]
        opened.append(f"  ollama create {record.bundle} -f {folder}/Modelfile")
    else:
        trust = ", trust_remote_code=True" if record.with_code else ""
        opened = [f'  AutoModelForCausalLM.from_pretrained("{folder}"{trust})']
    return [*opened, f"  {command('verify', exported.path)}"]
