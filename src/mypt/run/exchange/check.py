"""`mypt verify` of an exported folder: by itself, and against the bundle that it was made of if that is there."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

from mypt.checkpoint.family import is_bundle
from mypt.checkpoint.layout import EXPORT_FILE
from mypt.checkpoint.manager import CheckpointManager, Loaded, weights_sha256
from mypt.data.tokenizer import Tokenizer
from mypt.exchange.folder import changes, read_record
from mypt.exchange.gguf import llamacpp
from mypt.exchange.hf.folder import HFModel, read_back
from mypt.exchange.hf.reader import read_folder
from mypt.exchange.hf.vocabulary import TOKENIZER
from mypt.exchange.homes import home_or_code
from mypt.exchange.incoming import Incoming
from mypt.model.network import Network
from mypt.run.exchange import gguf, transformers
from mypt.run.verify import Check, FaultError, UncheckedError, run_check
from mypt.schema.files.export import ExportRecord
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.export import ExportConfig


class _Folder:
    """An exported folder whose parts are read when a check first needs them.

    Args:
        path: of the folder.
        out_dir: folder of all bundles.
    """

    def __init__(self, path: Path, out_dir: Path) -> None:
        self.path = path
        self.out_dir = out_dir

    @cached_property
    def record(self) -> ExportRecord:
        return read_record(self.path)

    @cached_property
    def incoming(self) -> Incoming:
        without = TokenizerFile(token_kind="ids", vocab_size=self.record.config.vocab_size)
        return read_folder(self.path, None if TOKENIZER in self.record.files else without)[0]

    @cached_property
    def bundle(self) -> Loaded[Network]:
        """The bundle that the folder was made of, which lies beside it or in the folder of all bundles."""
        places = [folder / self.record.bundle for folder in (self.path.parent, self.out_dir)]
        there = next(filter(is_bundle, places), None)
        if there is None:
            raise UncheckedError(f"{places[0]} is not here")
        loaded = CheckpointManager.at(there).load()
        if weights_sha256(loaded.model) != self.record.weights_sha256:
            raise UncheckedError(f"{there} has other weights now, of step {loaded.state.step:,}")
        return loaded


def verify_export(path: Path, out_dir: Path) -> list[Check]:
    """Check an exported folder's files, weights and what is computed with it, each on its own.

    Args:
        path: of the folder.
        out_dir: folder of all bundles, where that which it was made of may be.
    """
    folder = _Folder(path, out_dir)
    checks: dict[str, Callable[[_Folder], str]] = {
        "record": _record, "files": _files, "weights": _weights, "fits its bundle": _bundle,
        "computes the same": _computes,
    }  # fmt: skip
    return [run_check(path.name, name, partial(check, folder)) for name, check in checks.items()]


def _record(folder: _Folder) -> str:
    record = folder.record
    return f"{record.architecture}, {record.dtype}, of {record.bundle} at step {record.step:,}"


def _files(folder: _Folder) -> str:
    found = changes(folder.path, folder.record)
    if wrong := found.all:
        raise FaultError("; ".join(wrong[:5]))
    files = folder.record.files
    return f"{len(files)} files, {sum(f.bytes for f in files.values()):,} bytes, as they were exported"


def _weights(folder: _Folder) -> str:
    """What a folder of Hugging Face says by itself, without its bundle."""
    if folder.record.format == "gguf":
        raise UncheckedError("a GGUF file is compared with its bundle alone")
    weights, config = folder.incoming.weights, folder.record.config
    if folder.incoming.config != config:
        raise FaultError(f"config.json is not that of {EXPORT_FILE}")
    if folder.record.dtype == "fp32" and weights_sha256(_network(folder.incoming)) != folder.record.weights_sha256:
        raise FaultError(f"the weights are not those of {EXPORT_FILE}")
    return f"{len(weights)} tensors of finite values that fit {EXPORT_FILE}"


def _bundle(folder: _Folder) -> str:
    """Whether the folder holds the weights of its bundle, within the rounding of its dtype."""
    loaded, record = folder.bundle, folder.record
    asked = ExportConfig(format=record.format, dtype=record.dtype)
    if record.format == "gguf":
        difference = gguf.read_back(folder.path, record.bundle, loaded.model, loaded.tokenizer, asked.gguf_dtype)
    else:
        home = home_or_code(record.config)
        model = HFModel(loaded.model.state_dict(), record.config, loaded.tokenizer, asked.hf_dtype, home)
        difference = read_back(folder.path, model)
    if difference != record.proof.weights:
        raise FaultError(f"a weight differs by {difference:.3g}, and {EXPORT_FILE} says {record.proof.weights:.3g}")
    return f"{folder.record.bundle}, a weight differs by at most {difference:.3g}"


def _computes(folder: _Folder) -> str:
    if folder.record.format == "gguf":
        if not llamacpp.is_installed():
            raise UncheckedError("llama.cpp is not installed: pip install 'mypt[gguf]'")
        loaded = folder.bundle
        llama = gguf.ask_llama(folder.path / f"{folder.record.bundle}.gguf", loaded.model, loaded.tokenizer)
        return f"llama.cpp: a log probability differs by at most {llama.difference:.3g}"
    if not transformers.is_installed():
        raise UncheckedError("transformers is not installed: pip install 'mypt[hf]'")
    if folder.record.with_code:
        raise UncheckedError("mypt itself computes it, and a check runs no code of a folder")
    network, tokenizer = _network(folder.incoming), Tokenizer(folder.incoming.tokenizer)
    found = transformers.ask_transformers(folder.path, network, network, tokenizer, code=False)
    return f"{found.program}: a logit differs by at most {found.outputs:.3g}"


def _network(incoming: Incoming) -> Network:
    network = Network(incoming.config)
    network.load_weights(incoming.weights)
    return network
