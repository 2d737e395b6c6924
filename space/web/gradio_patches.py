"""Replaces or reads Gradio internals that have no setting.

`test_the_gradio_internals_are_unchanged` fails when Gradio changes one of them:
- `processing_utils.async_ssrf_protected_download`: the only place where components fetch URLs;
- `route_utils.get_fn`: accepts any session name, and fails for functions that don't exist;
- `traceback` in `queueing` and `routes`: prints messages, which quote visitors' data;
- `GradioMCPServer.tool_to_endpoint`: calls functions that it doesn't list.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import traceback
import types
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes
from starlette.exceptions import HTTPException

NO_URLS = "This server doesn't fetch files from URLs: upload the file itself."
_NO_ENDPOINT = "There is no such endpoint."
_FILE_ROUTE = re.compile(r"/gradio_api/file=(/.+|[A-Za-z]:.+)$")
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


def patch_gradio() -> None:
    """Make Gradio reject URLs where files are expected, and log failures without the data that was sent.

    Gradio accepts any session name and fails for functions that don't exist. Such requests are rejected here.
    """

    async def refuse(url: str, cache_dir: str) -> str:
        own = _own_file(url)  # language models refer to an uploaded file by its URL
        if own is None:
            raise gr.Error(NO_URLS, print_exception=False)
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
    """Log the location and type of the current exception, but not its message, which quotes visitors' data."""
    kind, _, place = sys.exc_info()
    print("".join(traceback.format_tb(place)), kind.__name__, sep="", file=sys.stderr)


def hide_unlisted_tools(blocks: gr.Blocks) -> None:
    """Remove functions that aren't tools from the MCP server: it doesn't list them, but calls them unchecked.

    A caller could then read the server's files (`{"path": …}`): only the schema of a listed tool rejects such input.
    """
    server = blocks.mcp_server_obj
    if server is not None:
        server.tool_to_endpoint = {
            name: endpoint
            for name, endpoint in server.tool_to_endpoint.items()
            if getattr(server.get_block_fn_from_endpoint_name(endpoint).fn, "_mcp_type", "tool") == "tool"
        }


def _own_file(url: str) -> str | None:
    """The path of a file uploaded to this app, given its URL; None for any other URL.

    Nothing is fetched. The host in the URL is ignored.
    """
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    with contextlib.suppress(ValueError, OSError):  # not a valid URL or path
        match = _FILE_ROUTE.search(unquote(urlsplit(url).path))
        path = Path(match[1]).resolve() if match else None
        if path and path.is_relative_to(uploads) and path.is_file():
            return str(path)
    return None
