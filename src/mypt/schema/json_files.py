"""Reads JSON files that may come from elsewhere: bounded in size before they are read, in depth and in numbers."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mypt.regular import open_regular

_DIGITS = 20
"""A number of 64 bits."""
_DEPTH = 100
_TOO_DEEP = "it is nested too deeply"


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes.

    Raises:
        ValueError: it has more.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, limit) + 1)
    if len(content) > limit:
        raise ValueError(f"it has {size:,} bytes, more than the {limit:,} that such a file can have")
    return content


def decode_json(content: bytes) -> Any:
    """Decode JSON.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a whole number of more than 64 bits.
    """
    try:
        value = json.loads(content, parse_int=_whole)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if content.count(b"[") + content.count(b"{") <= _DEPTH:
        return value
    level = [value]
    for _ in range(_DEPTH):
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _children(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def _whole(digits: str) -> int:
    if len(digits.removeprefix("-")) > _DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits")
    return int(digits)
