"""A folder of Hugging Face, and the proof that it holds the model."""

from pathlib import Path

from mypt.exchange.hf.folder import HFModel, read_back, write
from mypt.model.network import Network
from mypt.run.exchange.transformers import ask_transformers, is_installed
from mypt.schema.files.export import ExportProof

_NO_VOCABULARY = "It has no tokenizer: nothing says what the ids mean."


def write_folder(folder: Path, model: HFModel, network: Network) -> ExportProof:
    """Write a model into an empty folder, and prove it.

    Args:
        folder: the folder.
        model: what is written.
        network: of the same weights.

    Raises:
        ExportError: the dtype cannot hold a weight, or what was written is not the model.
    """
    write(folder, model)
    return prove(folder, model, network)


def prove(folder: Path, model: HFModel, network: Network) -> ExportProof:
    """Compare a folder with the model that it was made of.

    Raises:
        ExportError: it is another one.
    """
    notes = (_NO_VOCABULARY,) if model.tokenizer.kind == "ids" else ()
    weights = read_back(folder, model)
    if not is_installed():
        return ExportProof(weights=weights, notes=notes)
    held = Network(model.config)
    held.load_weights(model.rounded)
    found = ask_transformers(folder, network, held, model.tokenizer, code=model.home is None)
    return ExportProof(
        weights=weights, program=found.program, outputs=found.outputs, tokens=found.tokens, same=found.same, notes=notes
    )
