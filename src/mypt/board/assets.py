"""The files of the page: the board's own, by their names, and plotly's script out of its Python package."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mypt.errors import UsageError

PAGES = Path(__file__).parent / "pages"
HTML = "text/html; charset=utf-8"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def own_files() -> dict[str, Path]:
    """The board's own files by name; no other name opens one."""
    return {path.name: path for path in sorted(PAGES.iterdir()) if path.suffix in TYPES}


def text_of(name: str) -> str:
    """The text of one of the board's own files."""
    return (PAGES / name).read_text(encoding="utf-8")


def filled(name: str, parts: Mapping[str, str]) -> str:
    """A page with the charts and further parts where it has their names; nothing within a part is such a name."""
    given = {"charts": text_of("charts.html").rstrip(), **parts}
    return re.sub(r"@@(\w+)@@", lambda found: given[found[1]], text_of(name))


def plotly_script(of: str = "The board") -> Path:
    """Plotly's script; its Python package is not imported, which would take most of a second.

    Args:
        of: what needs it.

    Raises:
        UsageError: it is not installed.
    """
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script
    raise missing("plotly", of)


def missing(package: str, of: str = "The board") -> UsageError:
    """The error where a part of the extra is not installed."""
    return UsageError(f"{of} needs {package}, which is not installed.", "Install it: pip install 'mypt[board]'")
