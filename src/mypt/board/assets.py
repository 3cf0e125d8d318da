"""The files of the page: the board's own, by their names, and plotly's script out of its Python package."""

from importlib.util import find_spec
from pathlib import Path

from mypt.errors import UsageError

PAGES = Path(__file__).parent / "pages"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def own_files() -> dict[str, Path]:
    """The board's own files by name; no other name opens one."""
    return {path.name: path for path in sorted(PAGES.iterdir()) if path.suffix in TYPES}


def plotly_script() -> Path:
    """Plotly's script; its Python package is not imported, which would take most of a second.

    Raises:
        UsageError: it is not installed.
    """
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script
    raise missing("plotly")


def missing(package: str) -> UsageError:
    """The error where a part of the extra is not installed."""
    return UsageError(f"The board needs {package}, which is not installed.", "Install it: pip install 'mypt[board]'")
