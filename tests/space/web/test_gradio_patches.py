"""The Gradio internals that this app replaces."""

from __future__ import annotations

from space.web import gradio_patches


def test_own_file_accepts_only_uploads_to_this_app(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    mine, other = tmp_path / "gradio" / "a.jpg", tmp_path / "b.jpg"
    mine.touch(), other.touch()
    assert gradio_patches._own_file(f"http://x/gradio_api/file={mine}") == str(mine)
    for url in (
        f"http://x/gradio_api/file={other}", f"http://x/gradio_api/file={tmp_path}/gradio/../b.jpg", "http://x/a.jpg",
        f"http://x/gradio_api/file={tmp_path}/gradio/a%00", "http://[bad/gradio_api/file=/etc/passwd",
        "http://x/gradio_api/file=/tmp/\ud800",
    ):  # fmt: skip
        assert gradio_patches._own_file(url) is None, url


def test_the_gradio_internals_are_unchanged():
    """The app replaces these internals by name. If Gradio changes one of them, review `gradio_patches.py`."""
    import inspect

    from gradio import blocks, mcp, queueing, route_utils, routes

    move = inspect.getsource(blocks.Block.async_move_resource_to_block_cache)
    assert "processing_utils.async_ssrf_protected_download" in move
    for module in (queueing, routes):
        source = inspect.getsource(module)
        assert "route_utils.get_fn(" in source and "traceback.print_exc()" in source
        assert "format_exc" not in source and "print_exception(" not in source
    assert set(inspect.signature(route_utils.get_fn).parameters) == {"blocks", "api_name", "body"}
    call = inspect.getsource(mcp.GradioMCPServer._prepare_tool_call_args)
    assert "self.tool_to_endpoint.get(name)" in call and "Unknown tool" in call
