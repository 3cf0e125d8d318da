"""Who may ask the board what: this machine's own browser, by the address that it was told, and only to read."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What each answer says: scripts are those of the board alone, and no other page may have the board within it.

Styles within the page are allowed, as plotly sets them; texts of runs never become markup.
"""


class Guard:
    """Refuses what is asked under another name than the board's own, as a page of another site would make it.

    Args:
        app: what answers the rest.
        port: of the board.
    """

    def __init__(self, app: Application, port: int) -> None:
        self.app = app
        self.hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in own if n not in given)]
            await send(message)

        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            await _refuse(with_headers, 421, "The board answers by its own address alone.")
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(with_headers, 405, "The board can only be read.")
        else:
            await self.app(scope, receive, with_headers)


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *([(b"allow", b"GET, HEAD")] if status == 405 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
