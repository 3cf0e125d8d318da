"""Serves the board on this machine alone, until a signal ends it."""

import os
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from mypt.board.assets import missing, plotly_script
from mypt.board.folder import Board, Pages
from mypt.errors import UsageError

HOST = "127.0.0.1"
USUAL_PORT = 7678
"""Taken where it is free: at the same address a browser knows the page's scripts, and what was chosen, from before."""


def serve(out_dir: Path, pages: Pages, port: int | None, ready: Callable[[str], None], *, show: bool = False) -> None:
    """Serve the board of a folder; returns when a signal has ended it.

    Args:
        out_dir: the folder of bundles.
        pages: what other verbs show of runs.
        port: to listen at; None for the usual one, or another one that is free.
        ready: told the address, as soon as the board answers there.
        show: whether to open it in the browser.

    Raises:
        UsageError: the extra is not installed, or the port is taken.
    """
    plotly_script()
    try:
        import uvicorn

        from mypt.board.app import application
    except ImportError as error:
        raise missing((error.name or "a package").split(".")[0]) from error
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        board = Board(out_dir, pages)
        server: uvicorn.Server
        app = application(board, port, lambda: server.should_exit)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="error",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        address = f"http://{HOST}:{port}/"
        ready(address)
        if show:
            Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.run(sockets=[listener])


def _listening(port: int | None) -> socket.socket:
    """A socket that listens, so that no request comes too early.

    Raises:
        UsageError: another program has the port, or it is one of the system's.
    """
    for place in (USUAL_PORT, 0) if port is None else (port,):
        listener = socket.socket()
        if os.name == "posix":  # elsewhere it would take the port from under another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, place))
            listener.listen()
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
        else:
            return listener
    raise UsageError(f"The board cannot listen at port {place}: {reason}.", "Leave out --port, or choose another one.")
