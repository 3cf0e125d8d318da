"""Reads what is in a .pt file from its head, without torch or any tensor data, and judges whether it can be loaded.

Whatever loads a file goes through this first: it is known then that nothing in it is compressed, hidden, larger than it
says or several times there, so that loading takes no more memory than the file has bytes.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from mypt.checkpoint.manifest import check_file, damaged, reading
from mypt.checkpoint.pt.directory import Entry, read_directory
from mypt.checkpoint.pt.pickles import UnknownNameError, read_pickle
from mypt.regular import open_regular

_DTYPES = {
    "DoubleStorage": ("fp64", 8), "FloatStorage": ("fp32", 4), "HalfStorage": ("fp16", 2),
    "BFloat16Storage": ("bf16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
_FOREIGN = {
    "torch._utils _rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils _rebuild_nested_tensor": "a nested tensor",
    "torch._utils _rebuild_qtensor": "a quantized tensor",
    "torch._utils _rebuild_meta_tensor_no_storage": "a tensor without values",
    "torch._utils _rebuild_tensor_v3": "a tensor of a type such as float8",
    "torch ComplexFloatStorage": "a tensor of complex numbers",
    "torch ComplexDoubleStorage": "a tensor of complex numbers",
}
"""What torch can save and no bundle has, by what a file names for it."""
_OTHERS = {"data.pkl", "byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id"}
"""Entries besides the tensors' data."""
_SHORT_BYTES = 64
_LIST_BYTES, _LIST_BYTES_EACH = 1 << 20, 1 << 10
"""Bounds of data.pkl, which lists the tensors: about 200 bytes for each, and the settings of an optimizer."""
_DIMENSIONS = 8
_DEPTH = 8
_DEVICE = re.compile(r"(?!meta)[a-z]+(:\d{1,3})?")
NAMES_OF_ONE = 2
"""Names that a tensor of more than one value may have: those of a tied output layer and embedding."""


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int
    numel: int


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Shape, dtype, such as `fp32`, and storage of one tensor; tensors that share memory have the same storage."""

    shape: tuple[int, ...]
    dtype: str
    storage: str
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a .pt file by name; those in nested dictionaries have dotted names.

    Raises:
        BundleError: the file is missing or damaged, or holds what no bundle does.
    """
    check_file(path, content=False)
    try:
        with reading(path), open_regular(path) as file:
            entries = read_directory(file, os.fstat(file.fileno()).st_size)
            prefix, contents = _contents(entries)
            file.seek(contents.start)
            listed = file.read(contents.size)
        storages: dict[str, _Storage] = {}
        headers = _named(read_pickle(listed, _known(), lambda reference: _storage(reference, storages)))
        _check_storages(entries, prefix, storages)
        _check_sharing(headers)
    except UnknownNameError as error:
        if error.named in _FOREIGN:
            raise damaged(path, f"holds {_FOREIGN[error.named]}, which no bundle does") from error
        raise damaged(path, f"is damaged: {error}") from error
    except ValueError as error:
        raise damaged(path, f"is damaged: {error}") from error
    return headers


def is_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether a tensor has each value in its range of memory once, in whatever order of its dimensions."""
    spanned = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != spanned and 0 not in shape:
            return False
        spanned *= size
    return True


def _contents(entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """What all names begin with, and the entry that lists the tensors.

    Raises:
        ValueError: there are entries of another kind, or one is larger than it can be.
    """
    prefix = next(iter(entries), "").partition("/")[0] + "/"
    names = [name.removeprefix(prefix) for name in entries if name.startswith(prefix)]
    if len(names) < len(entries) or any(n not in _OTHERS and not n.startswith("data/") for n in names):
        raise ValueError("it has entries that no file of tensors has")
    if "data.pkl" not in names:
        raise ValueError("the list of its contents is missing")
    if any(entries[prefix + n].size > _SHORT_BYTES for n in _OTHERS.intersection(names) - {"data.pkl"}):
        raise ValueError("it has entries that no file of tensors has")
    contents = entries[prefix + "data.pkl"]
    if contents.size > _LIST_BYTES + _LIST_BYTES_EACH * len(names):
        raise ValueError(f"the list of its contents has {contents.size:,} bytes, more than its tensors need")
    return prefix, contents


def _known() -> dict[str, Any]:
    return {
        "collections OrderedDict": lambda: {},
        "torch._utils _rebuild_tensor_v2": _header,
        "torch._utils _rebuild_parameter": lambda data, *_: data,
        **{f"torch {name}": _Dtype(name) for name in _DTYPES},
    }


class _Dtype(str):
    """The name of a storage's class, which a text in a file is not."""

    __slots__ = ()


def _storage(reference: Any, storages: dict[str, _Storage]) -> _Storage:
    """The storage that a reference names, which is the same wherever it is named."""
    kind, name, key, device, numel = reference
    if kind != "storage" or type(name) is not _Dtype or type(numel) is not int or numel < 0:
        raise TypeError
    if not _DEVICE.fullmatch(device):
        raise ValueError("it holds a tensor without values, which no bundle does")
    storage = _Storage(key, *_DTYPES[name], numel)
    if storages.setdefault(key, storage) != storage:
        raise ValueError("two of its tensors disagree on the size of their data")
    return storage


def _header(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorHeader:
    """One tensor, which has to span its data, each value once.

    Raises:
        ValueError: it does not.
    """
    if type(storage) is not _Storage or not _are_sizes(shape) or not _are_sizes(stride) or len(shape) != len(stride):
        raise TypeError
    if not is_dense(shape, stride):
        raise ValueError(f"a tensor of shape {shape} repeats or leaves out values of its data")
    if offset != 0 or prod(shape) != storage.numel:
        raise ValueError(f"a tensor of shape {shape} does not span its data of {storage.numel:,} values")
    return TensorHeader(shape, storage.dtype, storage.key, stride)


def _are_sizes(sizes: Any) -> bool:
    return type(sizes) is tuple and len(sizes) <= _DIMENSIONS and all(type(n) is int and 0 <= n < 2**62 for n in sizes)


def _check_storages(entries: Mapping[str, Entry], prefix: str, storages: Mapping[str, _Storage]) -> None:
    """Make sure that the data of the tensors are there in full, and nothing beside them."""
    data = {name.removeprefix(f"{prefix}data/"): e for name, e in entries.items() if name.startswith(f"{prefix}data/")}
    if data.keys() != storages.keys():
        raise ValueError("its data are not those of its tensors")
    for key, storage in storages.items():
        if data[key].size != storage.numel * storage.size:
            raise ValueError(
                f"a tensor has {data[key].size:,} bytes of data and needs {storage.numel * storage.size:,}"
            )


def _check_sharing(headers: Mapping[str, TensorHeader]) -> None:
    """Make sure that a file means no more values than it has bytes for."""
    uses = Counter(header.storage for header in headers.values() if header.numel > 1)
    if any(times > NAMES_OF_ONE for times in uses.values()):
        raise ValueError("many of its tensors have the same data")


def _named(content: Any) -> dict[str, TensorHeader]:
    named: dict[str, TensorHeader] = {}
    for name, header in _flatten(content):
        if name in named:
            raise ValueError("two of its tensors have one name")
        named[name] = header
    return named


def _flatten(node: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, TensorHeader]]:
    if depth > _DEPTH:
        raise ValueError("the list of its contents is nested too deeply")
    if type(node) is TensorHeader:
        yield prefix, node
    elif type(node) is dict:
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key), depth + 1)
    elif type(node) in (list, tuple):
        for number, value in enumerate(node):
            yield from _flatten(value, f"{prefix}.{number}" if prefix else str(number), depth + 1)
