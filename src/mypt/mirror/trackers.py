"""The trackers, each behind the same three calls: open with a first point, add a point, close."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mypt.errors import UsageError
from mypt.mirror.points import Point
from mypt.mirror.tensorboard import EventFiles, check_unused
from mypt.schema.settings.output import Mirror

PROJECT = "mypt"
"""Where trackers with projects keep the runs."""
TENSORBOARD_FOLDER = Path("logs/tensorboard")


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers know it.

    Attributes:
        name: of the model.
        run_id: of the run; None in logs of older versions.
        live: whether it goes on, so that a session appends to what those before it sent; else it has to be new there.
        folder: where the tracker keeps its files; None leaves that to it.
    """

    name: str
    run_id: str | None
    live: bool = True
    folder: Path | None = None

    @property
    def label(self) -> str:
        """A name that no other run has."""
        return f"{self.name}-{self.run_id}" if self.run_id else self.name

    @property
    def event_files(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.folder or TENSORBOARD_FOLDER / self.label


class Tracker(ABC):
    """Where points go. Whatever it raises is the tracker's own."""

    @abstractmethod
    def add(self, point: Point) -> None:
        """Take one point."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was begun."""


class TensorBoard(Tracker):
    """Event files in a folder, which TensorBoard reads as they grow.

    Raises:
        UsageError: the run is not live, and the folder has such files already.
    """

    def __init__(self, run: TrackedRun, config: dict[str, Any]) -> None:
        if not run.live:
            check_unused(run.event_files)
        self.files = EventFiles(run.event_files)
        if config:
            self.files.add_config(config, run.label)

    def add(self, point: Point) -> None:
        """Curves, and what an event says beside them as text; all is on disk but for single steps."""
        self.files.add_point(point)
        if point.event != "step":
            self.files.flush()

    def close(self) -> None:
        """Close the file."""
        self.files.close()


class Trackio(Tracker):
    """A run in trackio's project `mypt`, with the steps of the run."""

    def __init__(self, run: TrackedRun, config: dict[str, Any]) -> None:
        if run.folder is not None:
            os.environ["TRACKIO_DIR"] = str(run.folder)  # which trackio reads when it is imported
        import trackio

        measured = None if run.live else False  # the load of this machine is no part of what was
        self.run = trackio.init(
            project=PROJECT, name=run.label, config=config, resume="allow" if run.live else "never", embed=False,
            auto_log_gpu=measured, auto_log_cpu=measured,
        )  # fmt: skip

    def add(self, point: Point) -> None:
        """Numbers by step; what else an event says goes with them."""
        self.run.log({**point.numbers, **_said(point)}, step=point.step)

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


class Wandb(Tracker):
    """A run in Weights & Biases' project `mypt`, under the id of the run; steps are its horizontal axis.

    Its own count of steps never goes back, as a run does that rewinds, so `iter` is a metric. It is kept from taking
    over what the run prints.
    """

    def __init__(self, run: TrackedRun, config: dict[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=PROJECT, id=run.run_id, name=run.name, dir=None if run.folder is None else str(run.folder),
            config=config, allow_val_change=True, resume="allow" if run.live else "never",
            settings={"console": "off", "x_disable_stats": not run.live},
        )  # fmt: skip
        self.run.define_metric("iter")
        self.run.define_metric("*", step_metric="iter")

    def add(self, point: Point) -> None:
        """One row of the history."""
        self.run.log({"iter": point.step, **point.numbers, **_said(point)})

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


TRACKERS: dict[Mirror, Callable[[TrackedRun, dict[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb,
}  # fmt: skip


def check_installed(kinds: Iterable[Mirror]) -> None:
    """Make sure that trackers can be had, before anything is begun.

    Raises:
        UsageError: one is not installed.
    """
    for kind in kinds:
        spec = find_spec(kind)
        if spec is None or spec.origin is None:  # a mere folder of that name, as wandb makes one
            raise UsageError(
                f"A mirror in {kind} needs {kind}, which is not installed.",
                f"Call `pip install 'mypt[{kind}]'`, or leave the mirror out.",
            )


def fault_of(error: BaseException) -> str:
    """What a tracker raised, in a line: its first one, without an end."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0].rstrip('.') if lines else ''}"


def _said(point: Point) -> dict[str, str]:
    """The texts of an event by names that no curve has."""
    return {f"{point.event}/{name}": text for name, text in point.texts.items()}
