"""Validates requests before Gradio sees them.

Gradio reads a request's JSON whole however large it is, keeps every name of a session, and fetches pictures and files
from addresses that visitors name. Here a request has a largest size and number of values, uploads stop while the disk
is nearly full, no address is ever fetched, and routes that this app has no use for are closed.

Gradio has no setting for four things, so `patch_gradio` and `hide_unlisted_tools` replace or read names that aren't
documented. `test_gradio_still_has_what_the_guard_replaces` fails when Gradio changes them:
- `processing_utils.async_ssrf_protected_download`: the one place through which every component fetches addresses;
- `route_utils.get_fn`: keeps names of sessions, whatever they are, and fails for functions that don't exist;
- `traceback` in `queueing` and `routes`: prints messages, which quote visitors;
- `GradioMCPServer.tool_to_endpoint`: calls functions that it doesn't list.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
import types
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio import processing_utils, queueing, route_utils, routes
from gradio.route_utils import API_PREFIX
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.video.limits import MAX_BYTES

MAX_JSON = 70_000_000  # bytes of a call: a photo of 50 MB as a data: URL
MAX_VALUES = 200_000  # of its JSON, each 100 bytes and more of memory while it is read; 2,000 files have 20,000
MAX_OTHER = 1_000_000  # bytes of any other request
MAX_UPLOAD = 10 * MAX_BYTES  # bytes of an upload, which may have many files; one has a limit of its own
MAX_QUEUED_PER_ADDRESS = 16  # requests of one address in the queue, which has room for 64: one visitor cannot fill it
MAX_DRAIN_BYTES = 200_000_000  # bytes of a refused request that are read before the connection ends
MIN_FREE_BYTES = 500_000_000  # bytes that must be free where uploads go
_OTHER_SITE = "Requests from other sites aren't allowed."
_NO_ENDPOINT = "There is no such endpoint."
_TOO_MANY = f"This request has too many values: the limit is {MAX_VALUES:,}."
_REFUSED = "This server doesn't fetch files from URLs: upload the file itself."
# What Gradio would get for a visitor, or pass on to another app.
_FETCHING = re.compile(r"/(file[=/]|proxy=)[/\s]*https?:", re.IGNORECASE)
_JOINING = re.compile(r"/(queue/join|call/(v2/)?[^/]+|run/[^/]+)/?$")
_MCP = f"{API_PREFIX}/mcp"
# Gradio's own tools and streams: they run past the queue, start FFmpeg or write what a visitor says into the log.
_CLOSED = re.compile(
    rf"({API_PREFIX})?/(api|process_recording|dev|monitoring|custom_component|vibe-|undo-vibe|deep_link|stream|"
    r"component_server|profiling|runs|run-history)\b"
)
_FILE_ROUTE = re.compile(r"/gradio_api/file=(/.+|[A-Za-z]:.+)$")
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class Guard:
    """ASGI middleware; rejects requests with a status and a message.

    Args:
        app: what is guarded.
        root_path: the path, or the whole address, under which a proxy shows the app.
        hosts: names that a `Host` header may have; None for any.
        login: whether visitors sign in. Then no other site's page may send anything, with their cookies.
    """

    def __init__(self, app: ASGIApp, root_path: str = "", hosts: frozenset[str] | None = None, login: bool = False):
        self.app, self.hosts, self.login = app, hosts, login
        address = urlsplit(root_path)
        self.prefix, self.public = address.path.rstrip("/"), address.hostname

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        refused = self.foreign(scope)
        if scope["type"] == "websocket":
            return await (
                send({"type": "websocket.close", "code": 1008}) if refused else self.app(scope, receive, send)
            )

        path = self._path(scope)
        uploading, mcp = path == f"{API_PREFIX}/upload", path.startswith(_MCP)
        limit = MAX_UPLOAD if uploading else MAX_JSON if mcp or _joins(scope, path) else MAX_OTHER
        refusal = (403, refused) if refused else self._refusal(scope, path, limit)
        if refusal:
            await _drain(receive)
            return await _answer(*refusal)(scope, receive, send)
        if mcp:
            hide_unlisted_tools(scope["app"].get_blocks())
            # Its calls come to the queue from this machine, with these headers.
            MutableHeaders(scope=scope)["x-forwarded-for"] = _address(scope)
        await self._pass_on(scope, receive, send, limit, uploading=uploading)

    def _path(self, scope: Scope) -> str:
        """The path without the proxy's prefix, which it may leave or take away; Gradio knows both."""
        full = unquote(scope["path"])
        return full.removeprefix(self.prefix) if full.startswith(f"{self.prefix}/") else full

    def _refusal(self, scope: Scope, path: str, limit: int) -> tuple[int, str] | None:
        """Status and sentence for what is not let through."""
        if _FETCHING.search(path):
            return 403, _REFUSED
        if path.startswith("/logout") and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            return 403, _OTHER_SITE
        if _CLOSED.match(path):
            return 404, "Not found."
        if _declared(scope) > limit:
            return 413, _too_large(limit)
        if path == f"{API_PREFIX}/upload" and shutil.disk_usage(tempfile.gettempdir()).free < MIN_FREE_BYTES:
            return 507, "The server is out of disk space. Try again in an hour."
        if _joins(scope, path) and queued_for(scope) >= MAX_QUEUED_PER_ADDRESS:
            return 503, f"You already have {MAX_QUEUED_PER_ADDRESS} requests in the queue. Try again later."
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, limit: int, *, uploading: bool) -> None:
        """Let the app answer; stop at `limit` bytes, and log a failure without what was sent."""
        received = values = 0

        async def counted() -> Message:
            nonlocal received, values
            message = await receive()
            body = message.get("body", b"")
            received += len(body)
            values += 0 if uploading else sum(map(body.count, (b",", b"[", b"{")))
            if received > limit or values > MAX_VALUES:  # FastAPI answers with it, from wherever the body is read
                if message.get("more_body"):
                    await _drain(receive)
                raise HTTPException(413, _too_large(limit) if received > limit else _TOO_MANY)
            return message

        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:  # the server's own log would quote the message, and with it the visitor
            log_traceback_without_message()
            if not started:
                await _answer(500, "Internal server error.")(scope, receive, send)
            else:
                with contextlib.suppress(Exception):  # it may have gone, or been answered to the end
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    def foreign(self, scope: Scope) -> str | None:
        """Why a request is rejected because of the page that sent it; None if it is allowed.

        A browser sends a page's own address as `Origin` with what may change something and with WebSockets. An app that
        runs on the visitor's own machine serves only its own pages: others in the same browser get nothing, also not
        under a name that they let point to this machine (DNS rebinding).
        """
        headers = Headers(scope=scope)
        host = _hostname(headers.get("host"))
        forwarded = _hostname(headers.get("x-forwarded-host", "").split(",")[0].strip())  # each proxy may add one
        if self.hosts is not None and host not in (self.hosts | LOOPBACK | {self.public}) - {None}:
            return "This app doesn't accept this host name. Start it with --root-path set to its public URL."
        origin = headers.get("origin")
        if origin is None or scope.get("method") in ("GET", "HEAD"):
            return None
        own = LOOPBACK | {host, forwarded, self.public} - {None}
        return _OTHER_SITE if (host in LOOPBACK or self.login) and _hostname(origin) not in own else None


def _joins(scope: Scope, path: str) -> bool:
    """Whether a request calls a function."""
    return scope["method"] == "POST" and bool(_JOINING.search(path))


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is of this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host in LOOPBACK


def _hostname(address: str | None) -> str | None:
    """The host of an address or of a `Host` header, without its port; None if it has none."""
    if not address or re.search(r"[@\\\\]", address):  # which browsers never send, and parsers read differently
        return None
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None


async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer to a request that is not of the form that its route takes; FastAPI's own would repeat all of it."""
    return _answer(
        422, "; ".join(f"{'.'.join(map(str, e['loc']))[:100]}: {e['msg'][:100]}" for e in error.errors()[:5])
    )


def patch_gradio() -> None:
    """Make Gradio refuse addresses where files are expected, and log failures without what was sent.

    It keeps names of sessions, whatever they are, and fails for functions that there are not: both are refused here.
    """

    async def refuse(url: str, cache_dir: str) -> str:
        own = _own_file(url)  # which language models name by its address
        if own is None:
            raise gr.Error(_REFUSED, print_exception=False)
        return own

    processing_utils.async_ssrf_protected_download = refuse

    find = route_utils.get_fn

    def get_fn(blocks, api_name, body):
        if body.session_hash and not _SESSION.fullmatch(body.session_hash):
            raise HTTPException(422, "A session_hash must have at most 64 characters: letters, digits, _ and -.")
        if body.fn_index is not None and body.fn_index not in blocks.fns:
            raise HTTPException(404, _NO_ENDPOINT)
        try:
            return find(blocks, api_name, body)
        except route_utils.FnIndexInferError:
            raise HTTPException(404, _NO_ENDPOINT) from None

    if find.__module__ == route_utils.__name__:  # once
        route_utils.get_fn = get_fn
    logging.getLogger("mcp").setLevel(logging.ERROR)  # its warnings quote callers
    for module in (queueing, routes):
        module.traceback = types.SimpleNamespace(print_exc=log_traceback_without_message)


def log_traceback_without_message() -> None:
    """Log where the current exception came from and its kind, but not its message: that quotes visitors."""
    kind, _, place = sys.exc_info()
    print("".join(traceback.format_tb(place)), kind.__name__, sep="", file=sys.stderr)


def hide_unlisted_tools(blocks: gr.Blocks) -> None:
    """Take functions that are no tools out of the MCP server: it lists them to nobody, but calls them unchecked.

    It would then read files of the server for a caller (`{"path": …}`), which only the schema of a listed tool refuses.
    """
    server = blocks.mcp_server_obj
    if server is not None:
        server.tool_to_endpoint = {
            name: endpoint
            for name, endpoint in server.tool_to_endpoint.items()
            if getattr(server.get_block_fn_from_endpoint_name(endpoint).fn, "_mcp_type", "tool") == "tool"
        }


def _own_file(url: str) -> str | None:
    """The path of a file that was uploaded to this app, from its address here; None for any other address.

    Nothing is fetched: whatever host the address names, only the path of an upload counts.
    """
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    with contextlib.suppress(ValueError, OSError):  # no address, no path
        match = _FILE_ROUTE.search(unquote(urlsplit(url).path))
        path = Path(match[1]).resolve() if match else None
        if path and path.is_relative_to(uploads) and path.is_file():
            return str(path)
    return None


def signed_in(app, cookies: dict[str, str]) -> bool:
    """Whether a request with these cookies may use the app: Gradio's own rule, for the routes that it does not know."""
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies.get(name) in app.tokens for name in names)


def credentials(text: str) -> tuple[str, str]:
    """`user:password` → both. Raises ValueError with a sentence that does not repeat them."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("must be USER:PASSWORD")
    return user, password


def queued_for(scope: Scope) -> int:
    """How many requests of the same address stand in Gradio's queue."""
    queues = scope["app"].get_blocks()._queue.event_queue_per_concurrency_id.values()
    address = _address(scope)
    return sum(_address(event.request.scope) == address for queue in queues for event in queue.queue)


def _address(scope: Scope) -> str:
    """The client's address. X-Forwarded-For is trusted only from a proxy in the same network, as on Spaces."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        near = ipaddress.ip_address(host).is_private
    except ValueError:
        near = False
    if not near:
        return host
    # Each proxy appends whom it saw; what stands before the last one that is no proxy is the visitor's own text.
    for entry in reversed(dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(entry.strip()).is_private:
                return entry.strip()
    return host


def _declared(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _drain(receive: Receive) -> None:
    """Read what the client still sends, within reason: many look for an answer only after that."""
    left = MAX_DRAIN_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


def _too_large(limit: int) -> str:
    return f"This request is too large: the limit is {limit // 1_000_000:,} MB."


def _answer(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text, "error": text}, status)  # Gradio's clients look at either
