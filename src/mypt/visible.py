"""Text that came from elsewhere, shown so that no terminal acts on it."""

import json
import re

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters but for newline and tab, those that turn the order of letters, those that hide, and surrogates."""


def visible(text: str) -> str:
    r"""The text with each character that a terminal would act on, or nobody sees, as its code, such as `\x1b`."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def visible_json(text: str) -> str:
    """A JSON text of the same content, in which such characters are escaped."""
    return _ACTING.sub(lambda found: json.dumps(found[0])[1:-1], text)
