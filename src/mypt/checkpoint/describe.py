"""One bundle, described whole from its own files, without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mypt.checkpoint.atomic import undisturbed
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.layout import CONFIG_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, TOKENIZER_FILE, bundle_path
from mypt.checkpoint.lineage import Ancestor, lineage
from mypt.checkpoint.manifest import MANIFEST_FILE, check_file, read_manifest
from mypt.checkpoint.pt_header import TensorHeader, read_headers
from mypt.model.cost import parameter_count, parameters_by_part
from mypt.schema.base import to_json_text
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR

HASHED_AT_SIGHT = 8 << 20
"""Bytes up to which a file's hash is compared whenever the bundle is looked at; `mypt verify` compares them all."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the header of its file describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class FileInfo:
    """A file of a bundle.

    Attributes:
        name: of the file.
        bytes: its size.
        sha256: its hash when it was saved; None for the manifest, which holds the hashes.
        checked: what was compared with the saved record: the `hash` of files up to `HASHED_AT_SIGHT`, the `size` of
            larger ones.
        dtypes: those of the tensors in it, but for single numbers such as the optimizer's count of steps.
        tensors: every one of them.
    """

    name: str
    bytes: int
    sha256: str | None
    checked: Literal["hash", "size"]
    dtypes: tuple[str, ...]
    tensors: tuple[TensorInfo, ...] = ()


@dataclass(kw_only=True)
class BundleDescription:
    """What `mypt inspect NAME --json` prints and `get_model_info` returns.

    Attributes:
        schema_version: grows when a field changes its meaning.
        name: of the bundle.
        path: as it was given or found.
        config: config.json.
        parameters: `total`, and `by_part`.
        tokenizer: tokenizer.json without the vocabulary itself.
        training_state: training_state.json.
        lineage: what it descends from, oldest first.
        files: each with its tensors.
    """

    schema_version: Literal[1] = 1
    name: str
    path: str
    config: GPTConfig
    parameters: dict[str, int | dict[str, int]]
    tokenizer: dict[str, Any]
    training_state: TrainingState
    lineage: list[Ancestor]
    files: list[FileInfo]


@dataclass(frozen=True)
class BundleInfo:
    """Everything that a bundle says of itself."""

    path: Path
    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    files: tuple[FileInfo, ...]

    def as_dict(self) -> dict[str, Any]:
        """The `BundleDescription` as plain JSON values."""
        description = BundleDescription(
            name=self.path.name,
            path=str(self.path),
            config=self.config,
            parameters={"total": parameter_count(self.config), "by_part": parameters_by_part(self.config)},
            tokenizer=self.tokenizer.model_dump(exclude_none=True, exclude={"chars", "tokens"}),
            training_state=self.state,
            lineage=lineage(self.path, self.state),
            files=list(self.files),
        )
        described: dict[str, Any] = json.loads(to_json_text(description))
        return described


def read_bundle(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> BundleInfo:
    """Read the JSON files and tensor headers of a bundle, given by name or by path.

    Raises:
        UsageError: there is no such bundle.
        BundleError: a file of it is missing or damaged.
    """
    return undisturbed(_read, bundle_path(name, out_dir))


def get_model_info(name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> dict[str, Any]:
    """What a bundle says of itself, as plain dictionaries; loads no tensor and no torch.

    Example:
        >>> get_model_info("dante")["training_state"]["training_config"]["max_iters"]  # doctest: +SKIP
        1000
    """
    return read_bundle(name, Path(out_dir)).as_dict()


def _read(path: Path) -> BundleInfo:
    state = read_state(path)
    names = [MODEL_FILE, CONFIG_FILE, TOKENIZER_FILE, STATE_FILE]
    names += [OPTIMIZER_FILE] if state.optimizer_file else []
    manifest = read_manifest(path)
    for name in manifest.files:
        check_file(path / name, content=_is_hashed(path / name))
    headers = {n: read_headers(path / n) if n.endswith(".pt") else {} for n in names}
    return BundleInfo(
        path=path,
        config=read_config(path),
        tokenizer=read_tokenizer(path),
        state=state,
        files=(
            *(_file_info(path / n, headers[n], manifest.files[n].sha256) for n in names),
            _file_info(path / MANIFEST_FILE, {}, None),
        ),
    )


def _is_hashed(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= HASHED_AT_SIGHT


def _file_info(path: Path, headers: dict[str, TensorHeader], sha256: str | None) -> FileInfo:
    dtypes = sorted({h.dtype for h in headers.values() if h.numel > 1})
    checked: Literal["hash", "size"] = "hash" if _is_hashed(path) else "size"
    tensors = tuple(TensorInfo(name, h.shape, h.dtype) for name, h in headers.items())
    return FileInfo(path.name, path.stat().st_size, sha256, checked, tuple(dtypes), tensors)
