"""Curves as a file: a picture, or a page that stands alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mypt.board import report
from mypt.checkpoint.atomic import replacing_file, storage_errors
from mypt.cli.draw import picture
from mypt.cli.draw.runs import Course
from mypt.errors import InputError, UsageError
from mypt.schema.settings.output import Axis

_MADE_BY = {".png": picture.check, ".svg": picture.check, ".html": report.check}


def check(path: Path, more: Sequence[str] = ()) -> None:
    """Make sure that a file of this name can be made here, before anything is read.

    Args:
        path: of the file.
        more: endings of files that need nothing to be made with.

    Raises:
        UsageError: the name says nothing of the form, or what makes it is not installed.
    """
    if path.suffix in _MADE_BY:
        _MADE_BY[path.suffix]()
    elif path.suffix not in more:
        raise UsageError(f"{path} is no picture.", f"End its name in one of {', '.join((*_MADE_BY, *more))}.")


def save(
    runs: Sequence[Course], axis: Axis, path: Path, verdict: str | None, page: Callable[[], dict[str, Any] | None]
) -> None:
    """Save curves in the form that the file's name asks for.

    Args:
        runs: in the order of the key.
        axis: what is horizontal; on a page, at first.
        path: of the file.
        verdict: what stands under the title of a picture.
        page: makes the verdict and the tables of a page.

    Raises:
        InputError: there is nothing to draw.
    """
    if not runs:
        raise InputError("There is nothing to draw.", "Wait for the first evaluation.")
    with storage_errors(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as temporary:
            if path.suffix == ".html":
                title = ", ".join(run.name for run in runs)
                text = report.report([(run.name, run.columns) for run in runs], axis, title, page())
                temporary.write_text(text, encoding="utf-8", newline="\n")
            else:
                picture.draw(runs, axis, temporary, verdict)
