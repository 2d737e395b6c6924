"""Validates requests before Gradio sees them.

Gradio reads a request's JSON whole however large it is, keeps every name of a session, and fetches pictures and files
from addresses that visitors name. Here a request has a largest size and number of values, uploads stop while the disk
is nearly full, no address is ever fetched, and routes that this app has no use for are closed.
`access.py` checks who may send requests, and `gradio_patches.py` replaces Gradio internals.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from fastapi.exceptions import RequestValidationError
from gradio.queueing import Event
from gradio.route_utils import API_PREFIX
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..video.limits import MAX_BYTES
from .access import OTHER_SITE, Logins, Origins, client_address, client_key, is_proxy, sign_out
from .gradio_patches import hide_unlisted_tools, is_name
from .memory import trim_memory
from .queue import events_of
from .traces import log_traceback_without_message
from .uploads import NO_URLS, folder

MAX_JSON = 28_000_000  # bytes of a call: a photo of 20 MB as a data: URL
MAX_JSON_IN_ALL = 100_000_000  # bytes of all calls that arrive, wait or run; each takes several times that in memory
MAX_VALUES = 200_000  # of its JSON, each 100 bytes and more of memory while it is read; 2,000 files have 20,000
MAX_JSON_PER_ADDRESS = 60_000_000  # of these, from one address
SMALL_BODY = 100_000  # bytes; these have room of their own, which large ones that never come don't take
MAX_SMALL_IN_ALL, MAX_SMALL_PER_ADDRESS = 20_000_000, 2_000_000
MAX_OTHER = 1_000_000  # bytes of any other request
MAX_OTHER_IN_ALL, MAX_OTHER_PER_ADDRESS = 40_000_000, 10_000_000  # bytes of these that arrive at the same time
MAX_SECONDS = 30.0  # for the body of a request; uploads may take longer, but not be silent for as long
LARGE_BODY = 5_000_000  # bytes after which memory is given back
MAX_UPLOAD = 10 * MAX_BYTES  # bytes of an upload, which may have many files; one has a limit of its own
MAX_UPLOADS_PER_ADDRESS = 2 * MAX_UPLOAD  # bytes of those that arrive
MAX_QUEUED_PER_ADDRESS = 16  # requests of one address in the queue, which has room for 64: one visitor cannot fill it
DRAIN_SECONDS = 300.0  # for the body of a refused request: uploads over a slow line end with an answer
MAX_SILENCE = 10.0  # seconds without a byte of it
MAX_DRAIN_BYTES = 200_000_000  # bytes of a refused request that are read before the connection ends
MIN_FREE_BYTES = 500_000_000  # bytes that must be free where uploads go
HELD = "age_gender.held"  # key of a request's scope: bytes of its body
# Gradio's page needs inline scripts and styles, and compiles event handlers. Only the Hub may show the page in a frame.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
_BUSY = "The server is busy. Upload the file instead of sending it in the request, or try again later."
_UPLOADING = "You are uploading other files. Wait until they have arrived, then try again."
_TOO_MANY = f"This request has too many values: the limit is {MAX_VALUES:,}."
# What Gradio would get for a visitor, or pass on to another app.
_FETCHING = re.compile(r"/(file[=/]|proxy=)[/\s]*https?:", re.IGNORECASE)
_JOINING = re.compile(r"/(queue/join|call/(v2/)?[^/]+|run/[^/]+)/?$")
_BY_NAME = re.compile(rf"{API_PREFIX}/call/v2/")  # parameters by name, which Gradio doesn't check
_UNFIT = "The endpoint is unknown, or parameters are missing or unknown. See the API tab."
_MCP = f"{API_PREFIX}/mcp"
_INFO = re.compile(rf"{API_PREFIX}/(info|openapi\.json|call/v2/)")
# Gradio's own tools and streams: they run past the queue, start FFmpeg or write what a visitor says into the log.
_CLOSED = re.compile(
    rf"({API_PREFIX})?/(api|process_recording|dev|monitoring|custom_component|vibe-|undo-vibe|deep_link|stream|"
    r"component_server|profiling|runs|run-history)\b"
)


# FastAPI's description of all routes, open to everybody. Gradio has its own, for those who are logged in.
_DESCRIBED = ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")


class Guard:
    """ASGI middleware; rejects requests with a status and a message.

    Args:
        app: what is guarded.
        root_path, hosts, allowed: as for `access.Origins`.
    """

    def __init__(
        self,
        app: ASGIApp,
        root_path: str = "",
        hosts: frozenset[str] | None = None,
        allowed: frozenset[str] = frozenset(),
    ):
        self.app, self.origins, self.logins = app, Origins(root_path, hosts, allowed), Logins()
        self.prefix = urlsplit(root_path).path.rstrip("/")
        self.calls = Budget(MAX_JSON_IN_ALL, MAX_JSON_PER_ADDRESS)
        self.others = Budget(MAX_OTHER_IN_ALL, MAX_OTHER_PER_ADDRESS)
        self.small = Budget(MAX_SMALL_IN_ALL, MAX_SMALL_PER_ADDRESS)
        self.uploads = Budget(sys.maxsize, MAX_UPLOADS_PER_ADDRESS)  # as they declare; in all, what the disk holds
        self.arriving: Counter[str] = Counter()  # calls of each address that aren't in the queue yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        refused = self.origins.refusal(scope)
        if scope["type"] == "websocket":
            return await (
                send({"type": "websocket.close", "code": 1008}) if refused else self.app(scope, receive, send)
            )

        path, key = self._path(scope), client_key(scope)
        uploading, mcp, joining = path == f"{API_PREFIX}/upload", path.startswith(_MCP), _joins(scope, path)
        limit = MAX_UPLOAD if uploading else MAX_JSON if mcp or joining else MAX_OTHER
        refusal = (403, refused) if refused else self._refusal(scope, path, limit)
        if refusal:
            await _drain(receive)
            return await _answer(*refusal)(scope, receive, send)
        if path.rstrip("/") == "/logout":
            return await sign_out(Request(scope), self.prefix)(scope, receive, send)
        size = _expected(scope, limit)
        if uploading:  # which go to the disk as they come
            budget = self.uploads
        elif size <= SMALL_BODY:
            budget = self.small
        else:
            budget = self.calls if limit == MAX_JSON else self.others
        if not budget.take(key, size, already=held(scope) if budget is self.calls else 0):
            await _drain(receive)
            return await _answer(503, _UPLOADING if uploading else _BUSY)(scope, receive, send)
        if mcp:
            hide_unlisted_tools(scope["app"].get_blocks())
            # Its calls come to the queue from this machine, with these headers.
            MutableHeaders(scope=scope)["x-forwarded-for"] = client_address(scope)
        headers = MutableHeaders(scope=scope)
        if "range" in headers and not _is_range(headers["range"]):
            del headers["range"]  # Gradio fails for several ranges, and for none; without it, it sends the whole file
        send = self._with_headers(scope, path, send)
        if _INFO.match(path):
            scope["app"].api_info = None  # Gradio keeps the address that the first visitor says it has
        self.arriving[key] += joining
        try:
            await self._pass_on(scope, receive, send, limit, uploading=uploading)
        finally:
            self.arriving[key] -= joining
            if not self.arriving[key]:
                del self.arriving[key]
            budget.give_back(key, size)
            if size > LARGE_BODY and not uploading:
                trim_memory()

    def _with_headers(self, scope: Scope, path: str, send: Send) -> Send:
        """Add headers that protect the visitor to an answer, and count failed logins."""

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Content-Security-Policy"] = POLICY
                if path.rstrip("/") == "/login" and scope["method"] == "POST":
                    if message["status"] < 400:
                        self.logins.succeed(client_key(scope))
                    _restrict_cookies(headers, self.prefix, https=_is_https(scope))
            await send(message)

        return protected

    def _path(self, scope: Scope) -> str:
        """The path without the proxy's prefix, which it may leave or take away; Gradio knows both."""
        full = unquote(scope["path"])
        return full.removeprefix(self.prefix) if full.startswith(f"{self.prefix}/") else full

    def _refusal(self, scope: Scope, path: str, limit: int) -> tuple[int, str] | None:
        """Status and sentence for what is not let through."""
        if _FETCHING.search(path):
            return 403, NO_URLS
        if path.startswith("/logout") and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            return 403, OTHER_SITE
        if _CLOSED.match(path) or path in _DESCRIBED:
            return 404, "Not found."
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if "page" in query:  # of apps with several pages; Gradio fails for any other
            return 404, "Not found."
        if not all(map(is_name, query.get("upload_id", []))):
            return 422, "An upload_id must have at most 64 characters: letters, digits, _ and -."
        if _declared(scope) > limit:
            return 413, _too_large(limit)
        if path == f"{API_PREFIX}/upload":
            os.makedirs(folder(), exist_ok=True)  # programs that tidy up /tmp may have deleted it
            left = shutil.disk_usage(folder()).free - self.uploads.taken.total() - _expected(scope, limit)
            if left < MIN_FREE_BYTES:
                return 507, "The server is out of disk space. Try again in an hour."
        if path.rstrip("/") == "/login" and scope["method"] == "POST":
            if seconds := self.logins.wait(client_key(scope)):
                return 429, f"Too many failed logins. Try again in {seconds:.0f} seconds."
            self.logins.begin(client_key(scope))
        if _joins(scope, path) and queued_for(scope) + self.arriving[client_key(scope)] >= MAX_QUEUED_PER_ADDRESS:
            return 503, f"You already have {MAX_QUEUED_PER_ADDRESS} requests in the queue. Try again later."
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, limit: int, *, uploading: bool) -> None:
        """Let the app answer; stop at `limit` bytes, and log a failure without what was sent."""
        received = values = 0
        complete, deadline = False, time.monotonic() + MAX_SECONDS

        async def counted() -> Message:
            nonlocal received, values, complete
            if complete:
                return await receive()
            try:
                seconds = MAX_SECONDS if uploading else deadline - time.monotonic()
                message = await asyncio.wait_for(receive(), seconds)
            except TimeoutError:
                raise HTTPException(408, f"The request did not arrive within {MAX_SECONDS:.0f} seconds.") from None
            if uploading:
                complete = not message.get("more_body")
                return message
            body = message.get("body", b"")
            received += len(body)
            complete, scope[HELD] = not message.get("more_body"), received
            values += sum(map(body.count, (b",", b"[", b"{")))
            if received > limit or values > MAX_VALUES:  # FastAPI answers with it, from wherever the body is read
                if message.get("more_body"):
                    await _drain(receive, deadline - time.monotonic())
                raise HTTPException(413, _too_large(limit) if received > limit else _TOO_MANY)
            return message

        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception as error:  # the server's own log would quote the message, and with it the visitor
            log_traceback_without_message()
            by_name = scope["method"] == "POST" and _BY_NAME.match(self._path(scope))
            unfit = by_name and isinstance(error, (KeyError, TypeError))
            if not started:
                answer = (422, _UNFIT) if unfit else (500, "Internal server error.")
                await _answer(*answer)(scope, receive, send)
            else:
                with contextlib.suppress(Exception):  # it may have gone, or been answered to the end
                    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Budget:
    """Bytes of request bodies that may arrive at once.

    Args:
        total: of all requests.
        share: of those of one address.
    """

    def __init__(self, total: int, share: int):
        self.total, self.share = total, share
        self.taken: Counter[str] = Counter()

    def take(self, address: str, size: int, *, already: int = 0) -> bool:
        """Reserve `size` bytes for an address, besides what requests hold `already`; False if there is no room."""
        if size and (self.taken.total() + size + already > self.total or self.taken[address] + size > self.share):
            return False
        self.taken[address] += size
        return True

    def give_back(self, address: str, size: int) -> None:
        """Return a reservation."""
        self.taken[address] -= size
        if self.taken[address] <= 0:
            del self.taken[address]


def _expected(scope: Scope, limit: int) -> int:
    """The size that a request declares; the largest if it doesn't."""
    return limit if b"transfer-encoding" in dict(scope["headers"]) else _declared(scope)


def _joins(scope: Scope, path: str) -> bool:
    """Whether a request calls a function."""
    return scope["method"] == "POST" and bool(_JOINING.search(path))


def _is_range(text: str) -> bool:
    """Whether a Range header names one range of bytes."""
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", text, re.ASCII)
    return found is not None and any(found.groups()) and not (all(found.groups()) and int(found[1]) > int(found[2]))


async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer to a request that is not of the form that its route takes; FastAPI's own would repeat all of it."""
    return _answer(
        422, "; ".join(f"{'.'.join(map(str, e['loc']))[:100]}: {e['msg'][:100]}" for e in error.errors()[:5])
    )


def _events(scope: Scope) -> Iterator[Event]:
    """The events that wait in Gradio's queue or run."""
    return events_of(scope["app"].get_blocks()._queue)


def queued_for(scope: Scope) -> int:
    """How many requests of the same address wait in Gradio's queue or run."""
    key = client_key(scope)
    return sum(client_key(event.request.scope) == key for event in _events(scope))


def held(scope: Scope) -> int:
    """Bytes of the calls that wait in Gradio's queue or run."""
    return sum(event.request.scope.get(HELD, 0) for event in _events(scope))


def _is_https(scope: Scope) -> bool:
    """Whether the visitor uses HTTPS, also through a proxy."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "") if is_proxy((scope.get("client") or ("",))[0]) else ""
    return (forwarded.split(",")[0].strip() or scope.get("scheme")) == "https"


def _restrict_cookies(headers: MutableHeaders, prefix: str, *, https: bool) -> None:
    """Limit login cookies to this app's path. Gradio sets one for HTTPS and one for HTTP; one of them is enough."""
    cookies = headers.getlist("set-cookie")
    del headers["set-cookie"]
    for cookie in cookies:
        if ("secure" in re.split(r";\s*", cookie.lower())) == https:
            headers.append("set-cookie", re.sub(r"(?i)path=/", f"Path={prefix}/", cookie))


def _declared(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _drain(receive: Receive, seconds: float | None = None) -> None:
    """Read what the client still sends, within reason: many look for an answer only after that.

    Args:
        seconds: for all of it; None for DRAIN_SECONDS.
    """
    left = MAX_DRAIN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS if seconds is None else seconds):
            while left > 0:
                message = await asyncio.wait_for(receive(), MAX_SILENCE)
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _too_large(limit: int) -> str:
    return f"This request is too large: the limit is {limit // 1_000_000:,} MB."


def _answer(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text, "error": text}, status)  # Gradio's clients look at either
