"""The part of training_state.json that says what an imported model was made from."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from mypt.schema.base import Record, place

ImportKind = Literal["hf", "llm.c", "nanogpt"]
"""What was imported: a folder of Hugging Face, a file of llm.c, a checkpoint of nanoGPT."""


class ImportedFile(Record):
    """A file that was read.

    Attributes:
        name: its name.
        bytes: its size.
        sha256: hash of its bytes.
    """

    name: str
    bytes: int
    sha256: str


class ImportRecord(Record):
    """Where the weights of an imported model come from.

    Attributes:
        kind: what was imported.
        path: its absolute path.
        model_type: what the source calls its architecture, such as `llama`.
        files: what was read of it, in order.
        notes: what the source says that the bundle does not hold, a sentence each.
    """

    kind: ImportKind
    path: Annotated[str, AfterValidator(place)]
    model_type: str
    files: tuple[ImportedFile, ...]
    notes: tuple[str, ...] = ()
