"""The board's answers: its page, and what this asks for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mypt.board.assets import HTML, TYPES, filled, own_files, plotly_script
from mypt.board.folder import MOST_RUNS, Board
from mypt.board.guard import Application, Guard
from mypt.board.series import View
from mypt.errors import MyptError, UsageError
from mypt.schema.settings.output import Axis

POLL_S = 0.5
"""Between two looks at the folder, while a page is open."""
ALIVE_S = 15.0
"""After which a page that there is nothing new for is told that the board is still there."""
Answer = Callable[[Request], Any]


@dataclass(frozen=True)
class Answers:
    """The answers in JSON.

    Attributes:
        is_over: whether the board is about to end, so that streams do.
    """

    board: Board
    is_over: Callable[[], bool]

    def runs(self, _: Request) -> Any:
        """The table."""
        version, rows, _gone = self.board.changes()
        return {"version": self._named(version), "folder": str(self.board.out_dir), "runs": rows}

    def series(self, request: Request) -> Any:
        """What the charts draw of the chosen runs."""
        return {"runs": self.board.series(_runs(request), _view(request))}

    def compare(self, request: Request) -> Any:
        """The comparison of the chosen runs."""
        return self.board.compare(_runs(request))

    def run(self, request: Request) -> Any:
        """One run."""
        return self.board.run(_runs(request)[0])

    async def events(self, request: Request) -> Response:
        """A stream of the rows that change, as server-sent events."""
        birth, _, version = (request.headers.get("last-event-id") or request.query_params.get("since", "")).partition(
            "-"
        )
        since = _whole(version) if birth == self.board.birth else 0  # another board numbered its news otherwise
        return StreamingResponse(self._changes(since), media_type="text/event-stream")

    def _named(self, version: int) -> str:
        return f"{self.board.birth}-{version}"

    async def _changes(self, since: int) -> AsyncIterator[str]:
        quiet = 0.0
        yield "retry: 1000\n\n"
        while not self.is_over():
            version, rows, gone = await run_in_threadpool(self.board.changes, since)
            if version > since:
                yield f"id: {self._named(version)}\ndata: {_json({'runs': rows, 'gone': gone})}\n\n"
                since, quiet = version, 0.0
            elif (quiet := quiet + POLL_S) >= ALIVE_S:
                yield ": nothing new\n\n"
                quiet = 0.0
            await asyncio.sleep(POLL_S)


def application(board: Board, port: int, is_over: Callable[[], bool] = lambda: False) -> Application:
    """The board as an application, guarded.

    Raises:
        UsageError: plotly is not installed.
    """
    files, answers = own_files(), Answers(board, is_over)
    script = plotly_script()

    async def page(_: Request) -> Response:
        return Response(filled("index.html", {}), media_type=HTML)

    async def own(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        return PlainTextResponse("There is no such file.\n", 404) if path is None else FileResponse(
            path, media_type=TYPES[path.suffix]
        )  # fmt: skip

    async def plotly(_: Request) -> Response:
        kept = {"Cache-Control": "private, max-age=86400"}
        return FileResponse(script, media_type=TYPES[".js"], headers=kept)

    routes = [
        Route("/", page),
        Route("/static/{name}", own),
        Route("/plotly.js", plotly),
        *(Route(f"/api/{name}", _answering(getattr(answers, name))) for name in ("runs", "series", "compare", "run")),
        Route("/api/events", answers.events),
    ]
    return Guard(Starlette(routes=routes), port)


def _answering(answer: Answer) -> Answer:
    """An answer in JSON, made in a thread; where it cannot be given, a sentence on why."""

    @wraps(answer)
    def respond(request: Request) -> Response:
        try:
            content, status = answer(request), 200
        except MyptError as error:
            content, status = {"error": error.what, "todo": error.todo}, 404 if isinstance(error, UsageError) else 500
        return Response(_json(content), status, media_type="application/json")

    return respond


def _json(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _runs(request: Request) -> list[str]:
    """The runs that are asked for, each once."""
    runs = list(dict.fromkeys(request.query_params.getlist("run")))
    if not 0 < len(runs) <= MOST_RUNS:
        raise UsageError("Too many runs, or none.", f"Choose up to {MOST_RUNS}.")
    return runs


def _view(request: Request) -> View:
    asked = request.query_params
    axis: Axis = next((axis for axis in get_args(Axis) if axis == asked.get("x")), "tokens")
    smooth = _figure(asked.get("smooth")) or 0.0
    return View(
        axis=axis, start=_figure(asked.get("from")), stop=_figure(asked.get("to")),
        points=min(max(_whole(asked.get("points"), 2000), 100), 20_000), smooth=min(max(smooth, 0.0), 0.999),
    )  # fmt: skip


def _figure(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def _whole(text: str | None, otherwise: int = 0) -> int:
    value = _figure(text)
    return otherwise if value is None else int(value)
