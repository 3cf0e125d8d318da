"""The folder that the pages speak of, and a shell in it."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Mypt, Results, lay_again
from tests.docs.pages import Shell
from tests.docs.world import build


@pytest.fixture
def shell(
    mypt: Mypt,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    kept_results: Results,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shell:
    """In the folder that pages speak of, which is made once a session."""
    shell, key = Shell(mypt, monkeypatch), (("the world of the pages",), frozenset[tuple[str, str]]())
    if key in kept_results:
        lay_again(*kept_results[key], folder)
    else:
        build(folder, shell)
        kept_results[key] = folder, shutil.copytree(folder, tmp_path_factory.mktemp("world") / "folder")
    return shell
