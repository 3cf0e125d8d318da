"""One thing that is found of a machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """What is found, and what of it is in the way.

    Attributes:
        about: what it is about, such as `disk`.
        name: of what was looked at.
        found: what was found, for people.
        wrong: what is in the way, and what to do; "" if nothing is.
    """

    about: str
    name: str
    found: str
    wrong: str = ""
