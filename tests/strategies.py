"""Hypothesis strategies for the schema's models."""

import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from mypt.schema.base import Model

BYTES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
"""The surrogates by which Python keeps the bytes of a path that is no UTF-8."""
_LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | BYTES
WORDS = st.text(_LETTERS, max_size=8)
NAMES = st.text(_LETTERS.filter(lambda c: c not in "/\\"), min_size=1, max_size=8).filter(lambda n: n.strip("."))


def built(model: type[BaseModel], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A model with any values that it takes, whole numbers of 64 bits and losses that are no numbers among them."""
    for made in _all(Model):
        made.model_rebuild()  # which a model that nobody has used yet has put off, and hypothesis asks what it takes
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        fields[name] = built(kind) if nested else st.from_type(kind)  # type: ignore[arg-type]
        if model.model_config.get("allow_inf_nan") is False and not nested:
            fields[name] = fields[name].filter(lambda value: not isinstance(value, float) or math.isfinite(value))
    return st.builds(model, **(fields | given))


def _all(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for one in model.__subclasses__():
        yield from _all(one)


st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
st.register_type_strategy(str, WORDS)
