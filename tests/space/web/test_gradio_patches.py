"""The Gradio internals that this app replaces."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from gradio import http_server, route_utils, routes, utils
from starlette.exceptions import HTTPException

from space.live import server
from space.web import gradio_patches
from space.web.gradio_patches import MAX_ERROR, _shortened, hide_unlisted_tools, patch_gradio


def test_only_listed_tools_can_be_called():
    functions = {
        "photo": SimpleNamespace(fn=lambda: None),
        "prompt": SimpleNamespace(fn=SimpleNamespace(_mcp_type="prompt")),
        "tool": SimpleNamespace(fn=SimpleNamespace(_mcp_type="tool")),
    }
    server = SimpleNamespace(
        tool_to_endpoint={name: f"/{name}" for name in (*functions, "gone")},
        get_block_fn_from_endpoint_name=lambda endpoint: functions.get(endpoint[1:]),
    )
    hide_unlisted_tools(SimpleNamespace(mcp_server_obj=server))
    assert server.tool_to_endpoint == {"photo": "/photo", "tool": "/tool"}
    hide_unlisted_tools(SimpleNamespace(mcp_server_obj=None))  # started without --mcp


def test_closing_a_generator_does_not_stop_the_server():
    """Its end may wait, for example for images that are being read."""
    patch_gradio()
    ended = []

    def steps():
        try:
            yield 1
            time.sleep(0.3)
            yield 2
        finally:
            time.sleep(0.5)
            ended.append(True)

    async def close():
        generator = utils.SyncToAsyncIterator(steps(), None)
        assert await anext(generator) == 1
        step = asyncio.create_task(generator.__anext__())  # it can be closed after this
        await asyncio.sleep(0.1)
        closing, longest = asyncio.create_task(generator.aclose()), 0.0
        while not closing.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert await step == 2
        await closing
        return longest

    assert asyncio.run(close()) < 0.3 and ended == [True]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, None),
        ({"fn_index": 7}, None),
        ({"fn_index": 8}, 404),
        ({"session_hash": "a" * 65}, 422),
        ({"session_hash": "../x"}, 422),
        ({"session_hash": None}, None),
        ({"event_data": {"path": "/etc/passwd"}}, 422),
    ],
)
def test_requests_for_functions_that_do_not_exist_are_rejected(monkeypatch, change, status):
    monkeypatch.setattr(route_utils, "get_fn", find := lambda blocks, api_name, body: "found")
    find.__module__ = route_utils.__name__
    patch_gradio()
    body = SimpleNamespace(**({"session_hash": "a-B_9", "event_data": None, "fn_index": None} | change))
    blocks = SimpleNamespace(fns={7: None})
    if status is None:
        assert route_utils.get_fn(blocks, "x", body) == "found"
    else:
        with pytest.raises(HTTPException) as error:
            route_utils.get_fn(blocks, "x", body)
        assert error.value.status_code == status


def test_long_errors_keep_their_beginning_and_end():
    whole = "a" * 150 + "b" * 150
    assert len(whole) == MAX_ERROR and _shortened(whole) == whole
    assert _shortened("a" * 200 + "b" * 200) == "a" * 150 + " … " + "b" * 147


def test_the_gradio_internals_are_unchanged():
    """The app replaces these internals by name. If Gradio changes one of them, review `gradio_patches.py`."""
    import inspect

    from gradio import blocks, mcp, queueing, route_utils, routes

    from space.web.queue import Queue

    move = inspect.getsource(blocks.Block.async_move_resource_to_block_cache)
    assert "processing_utils.async_ssrf_protected_download" in move
    for module in (queueing, routes):
        source = inspect.getsource(module)
        assert "route_utils.get_fn(" in source and "traceback.print_exc()" in source
        assert "format_exc" not in source and "print_exception(" not in source
    assert set(inspect.signature(route_utils.get_fn).parameters) == {"blocks", "api_name", "body"}
    call = inspect.getsource(mcp.GradioMCPServer._prepare_tool_call_args)
    assert "self.tool_to_endpoint.get(name)" in call and "Unknown tool" in call
    assert inspect.getsource(routes.App.create_app).count("CustomCORSMiddleware,") == 1
    # Once Gradio returns the outputs one by one, and JSON, its own can be used again.
    assert "return [result]" in inspect.getsource(mcp)
    assert "text=str(output))" in inspect.getsource(mcp)
    # Every way to call a function ends in `process_api`, which is the only caller of what `Page` overrides.
    assert inspect.getsource(blocks).count("self.preprocess_data(") == 2  # one for batches, one for the rest
    assert inspect.getsource(blocks.Blocks.process_api).count("self.preprocess_data(") == 2
    # A visitor's cancellation ends the task, and closes the generator by this name.
    assert "task.cancel()" in inspect.getsource(utils.cancel_tasks)
    assert "await iterator.aclose()" in inspect.getsource(utils.safe_aclose_iterator)
    # What `queue.py` relies on.
    assert inspect.getsource(blocks).count("queueing.Queue(") == 1
    queue = inspect.getsource(Queue.__bases__[0])
    for line in (
        "self.pending_messages_per_session[body.session_hash] = AsyncQueue()",
        "messages = self.pending_messages_per_session[event.session_hash]",
        "return events, batch, concurrency_id",
        "event_batch = self.get_events()",
        "self.process_events, events, batch, start_time, fn",
        "self.event_ids_to_events.pop(event._id, None)",
        "awake_events = [event for event in awake_events if event.alive]",
    ):
        assert line in queue, line
    assert "self.enqueue_time: float = time.monotonic()" in inspect.getsource(queueing.Event)
    # The script that chooses the language is put before Gradio's own.
    environment = routes.templates.env
    for name in ("frontend/index.html", "frontend/share.html"):
        assert environment.loader.get_source(environment, name)[0].count("<head>") == 1


def test_asking_for_uploads_that_do_not_exist_leaves_nothing(monkeypatch):
    monkeypatch.setattr(gradio_patches, "MAX_UPLOADS_TRACKED", 3)
    progress = gradio_patches.UploadProgress()

    async def ask() -> None:
        for number in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(progress.is_tracked(f"{number}"), 0.01)
        waiting = asyncio.create_task(progress.is_tracked("later"))
        await asyncio.sleep(0.01)
        progress.append("later", "a.jpg", b"123")
        assert await asyncio.wait_for(waiting, 5)

    asyncio.run(ask())
    assert [*progress._statuses] == ["later"] and not progress._signals
    assert progress.pop("later").chunk_size == 3
    for number in range(5):
        progress.track(f"{number}")
        progress.track(f"{number}")
    assert [*progress._statuses] == ["2", "3", "4"]
    patch_gradio()
    assert isinstance(routes.file_upload_statuses, gradio_patches.UploadProgress)


def test_messages_on_websockets_are_small_and_not_compressed():
    patch_gradio()
    config = http_server.uvicorn.Config(app=None)
    assert config.ws_max_size == 1_100_000 > server.MAX_BYTES + 4 and config.ws_per_message_deflate is False
