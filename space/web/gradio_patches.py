"""Replaces or reads Gradio internals that have no setting.

`test_the_gradio_internals_are_unchanged` fails when Gradio changes one of them:
- `processing_utils.async_ssrf_protected_download`: the only place where components fetch URLs;
- `route_utils.get_fn`: accepts any session name, and fails for functions that don't exist;
- `utils.SyncToAsyncIterator.aclose`: closes a canceled generator on the event loop, which then serves nobody;
- `traceback` in `queueing` and `routes`: prints messages, which quote visitors' data;
- `queueing.Queue`: any visitor can stop, fill or hold it, see `queue.py`;
- `routes.file_upload_statuses`: keeps each name of an upload that anybody asks for;
- `http_server.uvicorn.Config`: accepts messages of 16 MB on a WebSocket, and compressed ones;
- `routes.CustomCORSMiddleware`: lets pages of every site read answers, with the visitor's login;
- `GradioMCPServer.tool_to_endpoint`: calls functions that it doesn't list;
- `GradioMCPServer._execute_tool_without_progress`, `postprocess_output_data` and `convert_strings_to_filedata`: answer
  with the `repr` of all outputs, without the image, and repeat wrong values whole;
- `routes.templates`: the HTML of the page, which `launch(head=…)` changes too late for Gradio's choice of a language;
- `Blocks.preprocess_data`: all values of all events pass through it.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib.util
import json
import logging
import mimetypes
import re
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import gradio as gr
from gradio import http_server, processing_utils, queueing, route_utils, routes, utils
from gradio_client.utils import is_file_obj_with_meta
from jinja2 import ChoiceLoader, FunctionLoader
from starlette.exceptions import HTTPException

from .components import UploadInput
from .queue import Queue
from .traces import log_traceback_without_message
from .uploads import NO_URLS, UploadError, admitted

WRONG_FORM = "A value in this request doesn't have the form that the endpoint expects. See the API tab."
MAX_FETCHES = 8  # images that are fetched by URL at the same time
MAX_UPLOADS_TRACKED = 1000  # whose progress is kept
MAX_MESSAGE = 1_100_000  # bytes on a WebSocket: a frame of Live with its number
MAX_ERROR = 300  # characters of an error of an MCP tool
_NO_ENDPOINT = "There is no such endpoint."
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


class UploadProgress(route_utils.FileUploadProgress):
    """Progress of uploads for the page. Asking for one that doesn't exist leaves nothing, and old ones are dropped."""

    def track(self, upload_id: str) -> None:
        if upload_id not in self._statuses:
            while len(self._statuses) >= MAX_UPLOADS_TRACKED:
                del self._statuses[next(iter(self._statuses))]
            self._statuses[upload_id] = route_utils.FileUploadProgressTracker(deque(), False)

    async def is_tracked(self, upload_id: str) -> bool:
        while upload_id not in self._statuses:  # Gradio waits for three seconds at most
            await asyncio.sleep(0.05)
        return True


def is_name(text: str) -> bool:
    """Whether a text may name a session or an upload."""
    return _SESSION.fullmatch(text) is not None


def patch_gradio() -> None:
    """Make Gradio reject URLs where files are expected, and log failures without the data that was sent.

    Gradio accepts any session name and fails for functions that don't exist. Such requests are rejected here.
    """

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error(NO_URLS, print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse
    routes.CustomCORSMiddleware = lambda app, **_: app  # type: ignore[misc,assignment]  # `page.launch_options` adds Starlette's

    find = route_utils.get_fn

    def get_fn(blocks, api_name, body):
        if body.session_hash and not is_name(body.session_hash):
            raise HTTPException(422, "A session_hash must have at most 64 characters: letters, digits, _ and -.")
        try:
            body.event_data = admitted(body.event_data)
        except UploadError as error:
            raise HTTPException(422, str(error)) from None
        if body.fn_index is not None and body.fn_index not in blocks.fns:
            raise HTTPException(404, _NO_ENDPOINT)
        try:
            return find(blocks, api_name, body)
        except route_utils.FnIndexInferError:
            raise HTTPException(404, _NO_ENDPOINT) from None

    async def aclose(self, timeout: float = 60.0, retry_interval: float = 0.05) -> None:
        await asyncio.to_thread(_close, self.iterator, timeout, retry_interval)

    utils.SyncToAsyncIterator.aclose = aclose  # type: ignore[method-assign]
    routes.file_upload_statuses = UploadProgress()
    small = functools.partial(http_server.Config, ws_max_size=MAX_MESSAGE, ws_per_message_deflate=False)
    http_server.uvicorn = types.SimpleNamespace(Config=small)  # type: ignore[assignment]

    if find.__module__ == route_utils.__name__:  # once
        route_utils.get_fn = get_fn
    logging.getLogger("mcp").setLevel(logging.ERROR)  # its warnings quote callers
    if importlib.util.find_spec("mcp"):
        patch_mcp()
    queueing.Queue = Queue  # type: ignore[misc]
    for module in (queueing, routes):
        module.traceback = types.SimpleNamespace(  # type: ignore[attr-defined]
            print_exc=log_traceback_without_message
        )


def _close(generator: Generator, timeout: float, interval: float) -> None:
    """Close a generator once its current step has ended. It may wait, for example for images that are being read."""
    end = time.monotonic() + timeout
    while True:
        try:
            return generator.close()
        except ValueError as error:
            if "already executing" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(interval)


def run_before_gradio(script: str) -> None:
    """Put JavaScript into the HTML of the page, where it runs before Gradio's own."""
    environment = routes.templates.env
    original = environment.loader
    if original is None or isinstance(original, ChoiceLoader):  # once
        return

    def page(name: str) -> str | None:
        if name not in ("frontend/index.html", "frontend/share.html"):
            return None
        html = original.get_source(environment, name)[0]
        return html.replace("<head>", f"<head><script>{{% raw %}}{script}{{% endraw %}}</script>", 1)

    environment.loader = ChoiceLoader([FunctionLoader(page), original])


def hide_unlisted_tools(blocks: gr.Blocks) -> None:
    """Remove functions that aren't tools from the MCP server: it doesn't list them, but calls them unchecked.

    A caller could then read the server's files (`{"path": …}`): only the schema of a listed tool rejects such input.
    """
    server = blocks.mcp_server_obj
    if server is not None:
        server.tool_to_endpoint = {
            name: endpoint
            for name, endpoint in server.tool_to_endpoint.items()
            if (found := server.get_block_fn_from_endpoint_name(endpoint)) is not None
            and getattr(found.fn, "_mcp_type", "tool") == "tool"
        }


def patch_mcp() -> None:
    """Make MCP tools answer with images as images and results as JSON, also structured, and with short errors."""
    from gradio.mcp import GradioMCPServer
    from mcp import types as kinds

    async def execute(self, job) -> list:
        outputs = await anyio.to_thread.run_sync(job.result)
        return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]

    def postprocess(self, data: list, root_url: str) -> list:
        parts: list = []
        for output in processing_utils.add_root_url(data, root_url, None):
            if is_file_obj_with_meta(output):
                parts += _file_content(output)
            elif output is not None:
                text = output if isinstance(output, str) else json.dumps(output)
                parts.append(kinds.TextContent(type="text", text=text))
        return parts

    def _file_content(output: dict) -> list:
        url = kinds.TextContent(type="text", text=output["url"] or output["path"])
        kind = mimetypes.guess_type(output["path"])[0] or ""
        if not kind.startswith("image/"):
            return [url]
        data = base64.b64encode(Path(output["path"]).read_bytes()).decode()
        return [kinds.ImageContent(type="image", data=data, mimeType=kind), url]

    convert, create = GradioMCPServer.convert_strings_to_filedata, GradioMCPServer.create_mcp_server

    def short_errors(self, value, positions):
        try:
            return convert(self, value, positions)
        except ValueError:
            raise ValueError("Pass a file as a data: URL, or as the URL of a file uploaded to this app.") from None

    def structured(self):
        server = create(self)
        handle = server.request_handlers[kinds.CallToolRequest]

        async def handle_structured(request):
            answer = await handle(request)
            texts = [part for part in answer.root.content if isinstance(part, kinds.TextContent)]
            if answer.root.isError:
                for part in texts:
                    part.text = _shortened(part.text)
            else:
                answer.root.structuredContent = next(filter(None, (_json_object(part.text) for part in texts)), None)
            return answer

        server.request_handlers[kinds.CallToolRequest] = handle_structured
        return server

    if convert.__module__ == GradioMCPServer.__module__:  # once
        replaced: Any = GradioMCPServer
        replaced._execute_tool_without_progress = execute
        replaced.postprocess_output_data = postprocess
        replaced.convert_strings_to_filedata = short_errors
        replaced.create_mcp_server = structured


def _shortened(text: str) -> str:
    """The beginning and the end, which say what is wrong; between them may be all that was sent."""
    return text if len(text) <= MAX_ERROR else f"{text[: MAX_ERROR // 2]} … {text[-MAX_ERROR // 2 + 3 :]}"


def _json_object(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@functools.cache
def _fetching() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(MAX_FETCHES)


class Page(gr.Blocks):
    """`gr.Blocks` whose events get no file object that `uploads.admitted` rejects, whatever component it is for."""

    fetch: Callable[[str], tuple[str, str]] | None = None  # as for `admitted`

    async def _admitted(self, block_fn, inputs):
        try:
            return await anyio.to_thread.run_sync(admitted, inputs)
        except UploadError as error:
            takes_files = any(isinstance(part, UploadInput) for part in block_fn.inputs)
            if self.fetch is None or str(error) != NO_URLS or not takes_files:
                raise

        def fetch(url):
            path, name = self.fetch(url)
            self.upload_file_set.add(path)  # as what is uploaded
            return path, name

        # In threads of their own: slow servers don't delay other requests.
        return await anyio.to_thread.run_sync(admitted, inputs, fetch, limiter=_fetching())

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        try:
            checked = await self._admitted(block_fn, inputs)
            return await super().preprocess_data(block_fn, checked, state, explicit_call)
        except UploadError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except gr.Error as error:  # which Gradio's own components would log with a traceback
            error.print_exception = False
            raise
        except Exception as error:  # Gradio's message would quote paths and addresses of objects
            print(f"A request was rejected: {type(error).__name__}", file=sys.stderr)
            raise gr.Error(WRONG_FORM, print_exception=False) from None
