"""Byte pairs as files of other programs write them: GPT-2's letter for each byte, and the list of merges."""

from collections.abc import Iterable, Iterator


def letters_of(token: bytes) -> str:
    """Bytes as printed characters, one for each, as in GPT-2's vocabulary file (Radford et al. 2019)."""
    return "".join(map(_LETTERS.__getitem__, token))


def token_of(letters: str) -> bytes:
    """The bytes that GPT-2's letters stand for; a letter that stands for none is itself."""
    return b"".join(_BYTES[c] if c in _BYTES else c.encode("utf-8") for c in letters)


def merges_of(tokens: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The merges of a vocabulary in the order of rank: each way to make a token of two others.

    mypt merges the pair whose bytes have the lowest rank, whichever way they are split.
    """
    known = set(tokens := list(tokens))
    for token in tokens:
        for cut in range(1, len(token)):
            if token[:cut] in known and token[cut:] in known:
                yield token[:cut], token[cut:]


def _letters() -> tuple[str, ...]:
    """GPT-2's table: a byte that shows is its own letter in Latin-1, each other the next one from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return tuple(chr(byte if byte in shown else 0x100 + hidden.index(byte)) for byte in range(256))


_LETTERS = _letters()
_BYTES = {letter: bytes([byte]) for byte, letter in enumerate(_LETTERS)}
