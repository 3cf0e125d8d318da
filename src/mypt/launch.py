"""How this process was started: alone, or as one of those that `torchrun` started."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

MARK = "TORCHELASTIC_RUN_ID"
"""A variable that torchrun sets and nobody else."""


@dataclass(frozen=True)
class Launch:
    """What torchrun says in the environment of each process (docs.pytorch.org, "torchrun").

    Attributes:
        rank: number of the process; 0 decides, writes and shows.
        size: processes of the job.
        local_rank: number of the process among those of its host.
        hosts: hosts of the job.
        restarts: how often torchrun has started the processes anew.
        elastic: whether torchrun started this process, be it the only one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    hosts: int = 1
    restarts: int = 0
    elastic: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The one that the environment describes; of a rank without torchrun's own mark nothing is believed.

        Pods and images have such variables for themselves, and in them a plain command is one process.
        """
        if MARK not in environ:
            return cls()
        size = int(environ.get("WORLD_SIZE", 1))
        return cls(
            rank=int(environ.get("RANK", 0)),
            size=size,
            local_rank=int(environ.get("LOCAL_RANK", 0)),
            hosts=max(1, size // int(environ.get("LOCAL_WORLD_SIZE", size))),
            restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
            elastic=True,
        )

    @property
    def leads(self) -> bool:
        """Whether this process decides, writes and shows."""
        return self.rank == 0

    @property
    def on_host(self) -> int:
        """Processes of a host."""
        return self.size // self.hosts

    @property
    def place(self) -> str:
        """Which process this is, for messages."""
        return f"process {self.rank} on {socket.gethostname()}"


ALONE = Launch()
"""A process that torchrun did not start."""
