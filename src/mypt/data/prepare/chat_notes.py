"""What is to be told of conversations: what was left out of them, which teach nothing, which are long."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mypt.schema.files.dataset import DatasetMetadata
from mypt.schema.files.prepare_plan import ChatNotes

PLACES = 5
"""Long conversations that are named."""
FIELDS = 20
"""Fields that are named of those that were left out."""


@dataclass
class NoteTaker:
    """Takes notes of the conversations of a unit.

    Attributes:
        block_size: the window of the model that they are for; None if that is not known.
    """

    block_size: int | None
    left_out: Counter[str] = field(default_factory=Counter)
    unlearned: int = 0
    unlearned_at: str | None = None
    longest: int = 0
    longest_at: str | None = None
    longer: int = 0
    longer_at: list[str] = field(default_factory=list)

    def note(self, location: str, tokens: int, counted: int, left_out: Counter[str]) -> None:
        """Note a conversation: where it is, its tokens, how many count in the loss, what was left out of it."""
        self.left_out.update(left_out)
        if not counted:
            self.unlearned += 1
            self.unlearned_at = self.unlearned_at or location
        if tokens > self.longest:
            self.longest, self.longest_at = tokens, location
        if self.block_size is not None and tokens > self.block_size:
            self.longer += 1
            self.longer_at += [f"{location} ({tokens:,})"] if len(self.longer_at) < PLACES else []

    def record(self) -> ChatNotes:
        """The notes of the unit."""
        return ChatNotes(
            left_out=dict(self.left_out), unlearned=self.unlearned, unlearned_at=self.unlearned_at,
            longest=self.longest, longest_at=self.longest_at, longer=self.longer, longer_at=tuple(self.longer_at),
        )  # fmt: skip


def told(notes: Sequence[ChatNotes], metadata: DatasetMetadata, block_size: int | None) -> list[str]:
    """A line on each thing that whoever trains on the conversations should know."""
    lines = []
    if longest := max(notes, key=lambda note: note.longest, default=None):
        lines.append(f"The longest conversation has {longest.longest:,} tokens: {longest.longest_at}.")
    if count := sum(note.longer for note in notes):
        places = [place for note in notes for place in note.longer_at]
        lines.append(
            f"{_conversations(count)} longer than the model's window of {block_size:,} tokens, so no window holds "
            f"{'it' if count == 1 else 'one'} whole: {', '.join(places[:PLACES])}{' …' if count > PLACES else ''}."
        )
    if count := sum(note.unlearned for note in notes):
        first = next(note.unlearned_at for note in notes if note.unlearned_at)
        lines.append(f"{_conversations(count)} without a token that counts in the loss; the first is {first}.")
    empty = [
        f"No token of the {name} split counts in the loss: nothing can be {use} it." for name, use in _empty(metadata)
    ]
    return [*lines, *empty, *left_out(notes)]


def left_out(notes: Iterable[ChatNotes]) -> list[str]:
    """The line on what was left out; none if nothing was."""
    counts: Counter[str] = sum((Counter(note.left_out) for note in notes), Counter())
    fields = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(FIELDS))
    more = f" and {len(counts) - FIELDS:,} more fields" if len(counts) > FIELDS else ""
    return [f"Left out of conversations: {fields}{more}."] if fields else []


def _empty(metadata: DatasetMetadata) -> list[tuple[str, str]]:
    splits = (("train", metadata.train, "learned from"), ("val", metadata.val, "measured on"))
    return [
        (name, use)
        for name, split, use in splits
        if split.shards and not sum(shard.counted or 0 for shard in split.shards)
    ]


def _conversations(count: int) -> str:
    return "1 conversation is" if count == 1 else f"{count:,} conversations are"
