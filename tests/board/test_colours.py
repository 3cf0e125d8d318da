"""The colours of the page, in dark and in light: text and curves stand out from what they are on."""

import re
from collections.abc import Iterator
from itertools import combinations

import pytest

from mypt.board.assets import PAGES

TEXT, DRAWN = 4.5, 3.0
"""Contrast that WCAG 2 asks for of text, and of what is drawn."""


def themes() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    css, js = ((PAGES / name).read_text(encoding="utf-8") for name in ("board.css", "charts.js"))
    blocks = re.findall(r"^:root[^{]*\{([^}]*)\}", css, re.M)
    for theme, block in zip(("light", "dark"), blocks, strict=True):
        names = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        (curves,) = re.findall(rf"^  {theme}: \[(.*)\]", js, re.M)
        yield theme, names, re.findall(r"#[0-9A-Fa-f]{6}", curves)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "names", "curves"), list(themes()), ids=["light", "dark"])
def test_everything_stands_out_from_its_ground(theme: str, names: dict[str, str], curves: list[str]) -> None:
    assert len(names) == 8 and len(curves) == 8
    for ground in ("ground", "raised"):
        for text in ("ink", "dim", "accent", "bad", "good"):
            assert contrast(names[text], names[ground]) >= TEXT, (theme, text, ground)
    for curve in curves:
        assert contrast(curve, names["ground"]) >= DRAWN, (theme, curve)
    assert all(one != other for one, other in combinations(curves, 2))
