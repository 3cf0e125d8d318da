"""How each shard of a folder without metadata holds its ids: by its header, or uint16 if nothing speaks against it."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mypt.data.formats.headers import HEADER_BYTES, Layout, layout_by_header
from mypt.data.formats.signatures import other_format
from mypt.data.formats.widths import Misread, misread
from mypt.errors import InputError
from mypt.regular import open_regular

_HEAD_BYTES = 1 << 12
_SHOWN = 5
_READ = "import os, numpy as np; f = {file!r}; ids = np.fromfile(f, {dtype!r}); assert ids.max() < {end}; "
_KEEP = "os.rename(f, f + '.bak'); "
_WRITE = "ids.astype('<u2').tofile(f)"
_WRITE_LLAMA3 = (
    "head = np.zeros(256, '<i4'); head[:3] = 20240801, 7, len(ids); "
    "open(f, 'wb').write(head.tobytes() + ids.astype('<u4').tobytes())"
)


def layouts_of(folder: Path, paths: Iterable[Path], vocab_size: int) -> dict[Path, Layout]:
    """How shards hold their ids.

    Args:
        folder: of the dataset, for messages.
        paths: its shards.
        vocab_size: that of ids without a header.

    Raises:
        InputError: a file is none of token ids, or of another width; all of these are listed.
        OSError: one cannot be read.
    """
    layouts, wrong = {}, {}
    for path in paths:
        layout = _layout(path, vocab_size)
        if isinstance(layout, Misread):
            wrong[path] = layout
        else:
            layouts[path] = layout
    if wrong:
        raise _not_uint16(folder, wrong)
    return layouts


def _layout(path: Path, vocab_size: int) -> Layout | Misread:
    size = path.stat().st_size
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    if layout := layout_by_header(path, head[:HEADER_BYTES], size):
        return layout
    if what := other_format(head, size):
        raise InputError(
            f"The file {path} holds no token ids: it is {what}.",
            "Make shards of the text with `mypt prepare`, or move the file out of the folder.",
        )
    return misread(path, size, vocab_size) or Layout(np.dtype("<u2"), size // 2)


def _not_uint16(folder: Path, wrong: Mapping[Path, Misread]) -> InputError:
    """The error for files of another width, with a command for each that makes it one that is read."""
    shown = list(wrong.items())[:_SHOWN]
    listed = ", ".join(f"{path.relative_to(folder).as_posix()} ({found.told})" for path, found in shown)
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    small = all(found.fits for found in wrong.values())
    which = "" if small else "if the ids are Llama 3's, and make others anew from their text with `mypt prepare`, "
    return InputError(
        f"Shards without a header have to be uint16, and {listed}{more} in {folder} look otherwise.",
        f"Convert them, {which}each by its command, which keeps the old file as .bak; where ids do look so, a header "
        "says that they are uint16 (docs/data.md).",
        [_command(path, found.dtype, fits=small) for path, found in shown],
    )


def _command(path: Path, dtype: str, *, fits: bool) -> str:
    code = _READ.format(file=str(path), dtype=dtype, end=2**16 if fits else 2**32)
    return f"python -c {shlex.quote(code + _KEEP + (_WRITE if fits else _WRITE_LLAMA3))}"
