"""`mypt board` as a process: its one line, how it ends, and what it needs."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mypt.board import assets, serve
from tests.board.runs import write_run
from tests.conftest import Mypt
from tests.test_structure import HEAVY, run_python


@contextmanager
def board(*words: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A board that serves, and its port."""
    call = [sys.executable, "-m", "mypt", "board", *words]
    process = subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "40"}
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("The runs of checkpoints are at http://127.0.0.1:"), line
        yield process, int(line.split(":")[-1].split("/")[0])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter there")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_while_pages_are_open(folder: Path, sent: signal.Signals, code: int) -> None:
    write_run(folder, "dante")
    with board() as (process, port):
        page = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        page.request("GET", "/api/events?since=0")
        with closing(page), page.getresponse() as news:
            assert news.status == 200 and news.readline() == b"retry: 1000\n"
            process.send_signal(sent)
            out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert out == "" and err == ("" if code == 0 else "Interrupted by SIGTERM.\n")


@pytest.mark.usefixtures("folder")
def test_it_listens_on_this_machine_alone_and_at_the_port_that_is_asked_for() -> None:
    Path("checkpoints").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    with board("--port", str(free)) as (_, port):
        assert port == free
        with socket.socket() as other, pytest.raises(OSError, match=r"refused|unreachable|assign"):
            other.connect(("127.0.0.2", port))


@pytest.mark.usefixtures("folder")
def test_without_a_port_it_takes_another_where_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(serve, "USUAL_PORT", taken.getsockname()[1])
        with serve._listening(None) as listener:
            assert listener.getsockname()[1] not in (0, serve.USUAL_PORT)
    with serve._listening(None) as listener:
        assert listener.getsockname() == ("127.0.0.1", serve.USUAL_PORT)


def test_a_port_that_is_taken_is_said_to_be_so(mypt: Mypt) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = mypt("board", "--port", str(port), ok=False)
    assert result.exit_code == 2
    assert f"The board cannot listen at port {port}" in result.stderr and "Leave out --port" in result.stderr


@pytest.mark.parametrize("package", ["plotly", "uvicorn", "starlette"])
def test_what_is_not_installed_is_named_with_what_to_install(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    if package == "plotly":
        monkeypatch.setattr(assets, "find_spec", lambda _: None)
    else:
        for name in [name for name in sys.modules if name.split(".")[0] in (package, "mypt") and "board" in name]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.applications", None)
    result = mypt("board", ok=False)
    assert result.exit_code == 2
    assert f"The board needs {package}, which is not installed." in result.stderr
    assert "pip install 'mypt[board]'" in result.stderr


def test_the_browser_is_opened_if_asked_for(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    assert "There is no folder checkpoints yet" in mypt("board").output and not opened
    output = mypt("board", "--open").output
    assert len(opened) == 1 and opened[0] in output


def test_it_answers_everything_without_torch_or_numpy(folder: Path) -> None:
    write_run(folder, "dante")
    write_run(folder, "other", run_id="another")
    code = f"""
import sys
from pathlib import Path
from mypt.board.app import application
from mypt.board.folder import Board, Pages
from mypt.board.series import View
from mypt.cli.record.board import board
from mypt.cli.render.board import comparison_page, inspect_page
made = Board(Path("checkpoints"), Pages(comparison_page, inspect_page))
application(made, 80)
ids = [row["id"] for row in made.changes()[1]]
assert made.series(ids, View()) and made.compare(ids)["verdict"] and made.run(ids[0])["sections"]
print(sorted({HEAVY!r} & sys.modules.keys()), "plotly" in sys.modules)
"""
    assert run_python(code, folder).strip() == "[] False"
