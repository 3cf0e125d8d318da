"""TensorBoard's event files, written with the package `tensorboard` alone."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mypt.errors import UsageError
from mypt.mirror.points import Point


def check_unused(folder: Path) -> None:
    """Make sure that a folder has no event files yet, which new ones would blur.

    Raises:
        UsageError: it has.
    """
    if any(folder.glob("events.out.tfevents.*")):
        raise UsageError(f"{folder} already holds TensorBoard's event files.", "Give another folder, or remove them.")


class EventFiles:
    """Appends one file to a folder, which is made; TensorBoard shows all of its files as one run.

    Raises:
        ImportError: `tensorboard` is not installed.
        OSError: the disk refused.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

        self._writer = EventFileWriter(str(folder))

    def add_point(self, point: Point) -> None:
        """A curve's next value for each number, and the texts together."""
        from tensorboard.plugins.scalar import metadata as scalar  # type: ignore[import-untyped]
        from tensorboard.plugins.text import metadata as text  # type: ignore[import-untyped]

        for name, value in point.numbers.items():
            self._add(name, float(value), scalar.create_summary_metadata("", ""), point.step, point.at)
        if point.texts:
            told = "  \n".join(f"{name}: {value}" for name, value in point.texts.items())
            self._add(point.event, [told.encode()], text.create_summary_metadata("", ""), point.step, point.at)

    def add_config(self, config: Mapping[str, Any], label: str) -> None:
        """The settings as hyperparameters of the run."""
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # type: ignore[import-untyped]

        start = plugin_data_pb2.SessionStartInfo(group_name=label, start_time_secs=time.time())
        for name, value in config.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
        self._add(metadata.SESSION_START_INFO_TAG, 0.0, metadata.create_summary_metadata(data), 0, None)

    def flush(self) -> None:
        """Have all on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _add(self, tag: str, value: Any, metadata: Any, step: int, at: float | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.util.tensor_util import make_tensor_proto  # type: ignore[import-untyped]

        event = Event(wall_time=time.time() if at is None else at, step=step)
        event.summary.value.add(tag=tag, tensor=make_tensor_proto(value), metadata=metadata)
        self._writer.add_event(event)
