"""One bundle, described whole from its own files, without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mypt.record.bundle import (
    CONFIG_FILE,
    DEFAULT_OUT_DIR,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    TOKENIZER_FILE,
    bundle_path,
    read_config,
    read_state,
    read_tokenizer,
)
from mypt.record.headers import TensorHeader, read_headers
from mypt.schema.arithmetic import parameter_count, parameters_by_part
from mypt.schema.config import GPTConfig
from mypt.schema.state import TrainingState
from mypt.schema.tokenizer import TokenizerFile


@dataclass(frozen=True)
class FileInfo:
    """A file of a bundle: its size in bytes, and the dtypes of the tensors in it."""

    name: str
    bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class BundleInfo:
    """Everything that a bundle says of itself."""

    path: Path
    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    files: tuple[FileInfo, ...]

    def as_dict(self) -> dict[str, Any]:
        """The description as plain JSON values: config, tokenizer, training_state, parameters, files."""
        tokenizer = self.tokenizer.model_dump(mode="json", exclude={"chars", "tokens"}, exclude_none=True)
        return {
            "name": self.path.name,
            "path": str(self.path),
            "config": self.config.model_dump(mode="json"),
            "parameters": {"total": parameter_count(self.config), "by_part": parameters_by_part(self.config)},
            "tokenizer": tokenizer,
            "training_state": self.state.model_dump(mode="json"),
            "files": [{"name": f.name, "bytes": f.bytes, "dtypes": list(f.dtypes)} for f in self.files],
        }


def read_bundle(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> BundleInfo:
    """Read the JSON files and tensor headers of a bundle, given by name or by path.

    Raises:
        UsageError: there is no such bundle.
        BundleError: a file of it is missing or damaged.
    """
    path = bundle_path(name, out_dir)
    state = read_state(path)
    names = [MODEL_FILE, CONFIG_FILE, TOKENIZER_FILE, STATE_FILE]
    names += [OPTIMIZER_FILE] if state.optimizer_file else []
    headers = {n: read_headers(path / n) if n.endswith(".pt") else {} for n in names}
    return BundleInfo(
        path=path,
        config=read_config(path),
        tokenizer=read_tokenizer(path),
        state=state,
        files=tuple(_file_info(path / n, headers[n]) for n in names),
    )


def get_model_info(name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> dict[str, Any]:
    """What a bundle says of itself, as plain dictionaries; loads no tensor and no torch.

    Example:
        >>> get_model_info("dante")["training_state"]["training_config"]["max_iters"]  # doctest: +SKIP
        1000
    """
    return read_bundle(name, Path(out_dir)).as_dict()


def _file_info(path: Path, headers: dict[str, TensorHeader]) -> FileInfo:
    dtypes = sorted({h.dtype for h in headers.values() if h.numel > 1})
    return FileInfo(name=path.name, bytes=path.stat().st_size if path.exists() else 0, dtypes=tuple(dtypes))
