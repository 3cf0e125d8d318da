"""The circumstances of a session that its trajectory depends on."""

from mypt.schema.base import Record


class Environment(Record):
    """Versions and hardware that the trajectory depends on in addition to the settings.

    Attributes:
        processor: CPU model and the widest vector instruction set that torch uses; None in older records.
        processes: that trained together.
        hosts: that they ran on.
        backend: what they exchanged gradients by, `gloo` or `nccl`; None for one process.
    """

    mypt: str
    python: str
    torch: str
    numpy: str
    tiktoken: str
    platform: str
    device: str
    threads: int
    processor: str | None = None
    processes: int = 1
    hosts: int = 1
    backend: str | None = None

    @property
    def shared_by(self) -> str:
        """The processes, for people; empty for one."""
        hosts = f"{self.hosts} hosts" if self.hosts > 1 else "1 host"
        return f"{self.processes} processes on {hosts} ({self.backend})" if self.processes > 1 else ""
