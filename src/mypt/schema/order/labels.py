"""What people call runs by besides their names: tags, which are looked for, and a note, which is read."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

LONGEST_TAG = 50
LONGEST_NOTE = 2000


def _tag(tag: str) -> str:
    """A word that a shell takes as it stands."""
    if not tag or len(tag) > LONGEST_TAG or tag[0] in "+-" or not all(c.isalnum() or c in "-_.:/=" for c in tag):
        raise ValueError(
            f"is no tag: up to {LONGEST_TAG} letters, digits and the characters - _ . : / =, the first no + or -"
        )
    return tag


Tag = Annotated[str, AfterValidator(_tag)]
Note = Annotated[str, StringConstraints(max_length=LONGEST_NOTE)]


def united(tags: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Tags and further ones, each once, in the order in which they came."""
    return tuple(dict.fromkeys((*tags, *more)))
