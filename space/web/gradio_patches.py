"""Replaces or reads Gradio internals that have no setting.

`test_the_gradio_internals_are_unchanged` fails when Gradio changes one of them:
- `processing_utils.async_ssrf_protected_download`: the only place where components fetch URLs;
- `route_utils.get_fn`: accepts any session name, and fails for functions that don't exist;
- `traceback` in `queueing` and `routes`: prints messages, which quote visitors' data;
- `routes.CustomCORSMiddleware`: lets pages of every site read answers, with the visitor's login;
- `GradioMCPServer.tool_to_endpoint`: calls functions that it doesn't list;
- `Blocks.preprocess_data`: all values of all events pass through it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import types

import anyio.to_thread
import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes
from starlette.exceptions import HTTPException

from space.web.uploads import NO_URLS, UploadError, admitted

WRONG_FORM = "A value of this request doesn't have the form that the endpoint takes: see the API tab."
_NO_ENDPOINT = "There is no such endpoint."
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


def patch_gradio() -> None:
    """Make Gradio reject URLs where files are expected, and log failures without the data that was sent.

    Gradio accepts any session name and fails for functions that don't exist. Such requests are rejected here.
    """

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error(NO_URLS, print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse
    routes.CustomCORSMiddleware = lambda app, **_: app  # `page.launch_options` adds Starlette's

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


class Page(gr.Blocks):
    """`gr.Blocks` whose events get no file object that `uploads.admitted` rejects, whatever component it is for."""

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        try:
            checked = await anyio.to_thread.run_sync(admitted, inputs)
            return await super().preprocess_data(block_fn, checked, state, explicit_call)
        except UploadError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:  # Gradio's message would quote paths and addresses of objects
            print(f"A request was rejected: {type(error).__name__}", file=sys.stderr)
            raise gr.Error(WRONG_FORM, print_exception=False) from None
