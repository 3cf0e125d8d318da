"""What the models of the schema have in common."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A model whose validators are built on first use, for most calls need few of them."""

    model_config = ConfigDict(defer_build=True, protected_namespaces=())


class Record(Model):
    """What a file holds: nothing that it does not know, and nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
