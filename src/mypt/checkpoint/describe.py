"""Describes a bundle from its JSON files and tensor headers, without torch."""

import json
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.layout import (
    CONFIG_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    MODEL_PARTS,
    OPTIMIZER_FILE,
    OPTIMIZER_PARTS,
    PART,
    STATE_FILE,
    TOKENIZER_FILE,
    bundle_path,
    place_of,
)
from mypt.checkpoint.lineage import Ancestor, lineage
from mypt.checkpoint.manifest import check_file, hash_of_weights, read_manifest
from mypt.checkpoint.parts.heads import parts_of, read_part
from mypt.checkpoint.pt.header import read_headers
from mypt.log.locate import own_log
from mypt.log.replay import latest_evaluations
from mypt.model.cost import parameter_count, parameters_by_part
from mypt.schema.base import to_json_text
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR

HASH_LIMIT_BYTES = 8 << 20
"""Files up to this size are hashed on every read; larger ones only by `mypt verify`."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as described by the header of its file."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class FileInfo:
    """A file of a bundle.

    Attributes:
        name: file name; of a part, after that of its folder.
        bytes: size.
        sha256: hash recorded in the manifest; None for the manifest itself.
        checked: what was compared with the manifest: the `hash` of files up to `HASH_LIMIT_BYTES`, else the `size`.
        dtypes: dtypes of its tensors; scalars, such as the optimizer's step count, are left out.
        tensors: all of its tensors, of which a part has some rows.
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
        schema_version: increases when a field changes its meaning.
        name: name of the bundle.
        path: folder, as given or found.
        config: config.json.
        parameters: parameter counts: `total` and `by_part`.
        tokenizer: tokenizer.json without the vocabulary itself.
        training_state: training_state.json.
        lineage: the runs it descends from, oldest first.
        files: the files with their tensors.
        evaluations: what `mypt evaluate` found of these weights: the events of the log, only the latest of each text.
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
    evaluations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class BundleInfo:
    """The contents of a bundle, without tensor data; `weights_hash` tells its weights from others."""

    path: Path
    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    files: tuple[FileInfo, ...]
    weights_hash: str
    evaluations: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The `BundleDescription` as JSON-compatible dictionaries, with a loss that is not finite as text."""
        description = BundleDescription(
            name=self.path.name,
            path=str(self.path),
            config=self.config,
            parameters={"total": parameter_count(self.config), "by_part": parameters_by_part(self.config)},
            tokenizer=self.tokenizer.model_dump(exclude_none=True, exclude={"chars", "tokens", "hf"}),
            training_state=self.state,
            lineage=lineage(self.path, self.state),
            files=list(self.files),
            evaluations=list(self.evaluations),
        )
        result: dict[str, Any] = json.loads(to_json_text(description), parse_constant=lambda name: str(float(name)))
        return result


def read_bundle(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> BundleInfo:
    """Read the JSON files and tensor headers of a bundle, given by name or path.

    Raises:
        UsageError: there is no such bundle.
        BundleError: a file is missing or damaged.
    """
    info = read_consistently(_read, bundle_path(name, out_dir))
    log = own_log(info.path)
    if log is None or not log.is_file():
        return info
    return replace(info, evaluations=tuple(latest_evaluations(log, info.weights_hash)))


def get_model_info(name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> dict[str, Any]:
    """Describe a bundle as plain dictionaries, without loading tensors or importing torch.

    Example:
        >>> get_model_info("dante")["training_state"]["training_config"]["max_iters"]  # doctest: +SKIP
        1000
    """
    return read_bundle(name, Path(out_dir)).as_dict()


def _read(path: Path) -> BundleInfo:
    state, manifest = read_state(path), read_manifest(path)
    names = [*_tensor_files(path, MODEL_FILE, MODEL_PARTS), CONFIG_FILE, TOKENIZER_FILE, STATE_FILE]
    names += _tensor_files(path, OPTIMIZER_FILE, OPTIMIZER_PARTS) if state.optimizer_file else []
    for name in dict.fromkeys([*manifest.files, *names]):
        check_file(path / name, content=_is_small(path / name))
    return BundleInfo(
        path=path,
        config=read_config(path),
        tokenizer=read_tokenizer(path),
        state=state,
        files=(
            *(_file_info(path, name, manifest.files[name].sha256) for name in names),
            _file_info(path, MANIFEST_FILE, None),
        ),
        weights_hash=hash_of_weights(manifest),
    )


def _tensor_files(bundle: Path, file: str, folder: str) -> list[str]:
    return [place_of(part)[1] for part in parts_of(bundle, folder)] or [file]


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= HASH_LIMIT_BYTES


def _file_info(bundle: Path, name: str, sha256: str | None) -> FileInfo:
    path = bundle / name
    headers = read_headers(path) if path.suffix == ".pt" else read_part(path) if path.suffix == PART else {}
    tensors = tuple(TensorInfo(tensor, h.shape, h.dtype) for tensor, h in headers.items())
    dtypes = sorted({tensor.dtype for tensor in tensors if prod(tensor.shape) > 1})
    checked: Literal["hash", "size"] = "hash" if _is_small(path) else "size"
    return FileInfo(name, path.stat().st_size, sha256, checked, tuple(dtypes), tensors)
