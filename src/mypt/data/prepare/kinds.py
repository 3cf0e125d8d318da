"""Which kind of conversations an input holds, by its first row."""

from collections.abc import Iterable

from mypt.data.inputs.rows import Row
from mypt.data.prepare.conversations import EXAMPLES, kind_of, preferences
from mypt.data.prepare.documents import first_row
from mypt.errors import InputError
from mypt.schema.files.prepare_plan import InputFile
from mypt.schema.settings.prepare import ChatFormat, PrepareConfig


def with_kind(source: InputFile, config: PrepareConfig) -> InputFile:
    """An input, with the kind of its conversations if the settings say that it holds some.

    Raises:
        InputError: its first row is no conversation of any kind.
    """
    if not config.chat:
        return source
    kind = config.chat_format or _kind(source, first_row(source))
    return source.model_copy(update={"chat_format": kind})


def told(sources: Iterable[InputFile]) -> list[str]:
    """A line on each kind of conversations that is read."""
    kinds: dict[ChatFormat, list[InputFile]] = {}
    for source in sources:
        if source.chat_format is not None:
            kinds.setdefault(source.chat_format, []).append(source)
    more = {kind: f" and {len(files) - 1} more" if files[1:] else "" for kind, files in kinds.items()}
    return [f"Conversations of the kind {kind}: {kinds[kind][0].path}{others}." for kind, others in more.items()]


def _kind(source: InputFile, row: Row | None) -> ChatFormat:
    if row is None:
        return "messages"  # there is none that could be read in another way
    kind = kind_of(row.value)
    if kind is None and (unwanted := preferences(row.value)):
        raise InputError(
            f"{source.path}: the first row has {' and '.join(unwanted)}, and preferences cannot be learned.",
            f"Give the conversations that are to be learned alone, such as {EXAMPLES['messages']}.",
        )
    if kind is None:
        raise InputError(
            f"{source.path}: the first row is no conversation of a known kind; its fields are "
            f"{', '.join(map(repr, row.value))[:300]}.",
            f"Give rows such as {' or '.join(EXAMPLES.values())}.",
        )
    return kind
