"""Waiting for a Space, with a Hub and a clock that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from space.hub import wait
from space.hub.upload import HubError


@pytest.fixture
def hub(monkeypatch):
    """`hub.states`: (stage, commit that was built) of each look, the last one for good; the newest commit is "new"."""

    class Api:
        states, log, looks = (("RUNNING", "new"),), ("line\n",), 0

        def get_space_runtime(self, space):
            stage, built = self.states[min(self.looks, len(self.states) - 1)]
            Api.looks += 1
            if isinstance(stage, int):
                raise HfHubHTTPError("no", response=httpx.Response(stage, request=httpx.Request("GET", "/")))
            return SimpleNamespace(stage=stage, raw=None if built is None else {"sha": built})

        def space_info(self, space):
            return SimpleNamespace(sha="new")

        def fetch_space_logs(self, space, build):
            Api.asked_for_build = build
            if isinstance(self.log, Exception):
                raise self.log
            return self.log

    now = [0.0]
    monkeypatch.setattr(wait, "HfApi", Api)
    monkeypatch.setattr(wait.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    Api.now = now
    return Api


def test_the_newest_commit_is_waited_for(hub):
    hub.states = [("RUNNING", "old"), ("BUILD_ERROR", "old"), ("BUILDING", "new"), ("RUNNING", "new")]
    wait.wait("you/space")
    assert hub.looks == 4 and hub.now == [3 * wait.POLL]


def test_waiting_continues_after_temporary_hub_errors(hub):
    hub.states = [(502, None)] * 4 + [("BUILDING", "new")] + [(429, None)] * 4 + [("RUNNING", "new")]
    wait.wait("you/space")
    assert hub.looks == 10


@pytest.mark.parametrize(("status", "looks"), [(502, 5), (401, 1), (404, 1)])
def test_waiting_stops_after_repeated_hub_errors(hub, status, looks):
    hub.states = [(status, None)]
    with pytest.raises(HubError):
        wait.wait("you/space")
    assert hub.looks == looks


def test_a_hub_that_names_no_commit_is_believed_after_half_a_minute(hub):
    hub.states = [("RUNNING", None)]
    wait.wait("you/space")
    assert hub.now == [wait.SETTLE + wait.POLL]


@pytest.mark.parametrize(("stage", "build"), [("BUILD_ERROR", True), ("RUNTIME_ERROR", False), ("PAUSED", False)])
@pytest.mark.parametrize("built", ["new", None])
def test_a_failure_shows_the_end_of_the_log(hub, stage, build, built):
    hub.states, hub.log = [(stage, built)], [f"line {i}\n" for i in range(40)]
    with pytest.raises(HubError) as caught:
        wait.wait("you/space")
    head, *lines = str(caught.value).splitlines()
    assert head == f"The Space is in state {stage}. The end of its log:" and hub.asked_for_build is build
    assert lines == [f"  line {i}" for i in range(40 - wait.LOG_LINES, 40)]


def test_a_log_that_is_unavailable_hides_no_failure(hub):
    hub.states, hub.log = [("CONFIG_ERROR", "new")], OSError("no network")
    with pytest.raises(HubError, match=r"(?s)CONFIG_ERROR.*unavailable: no network"):
        wait.wait("you/space")


def test_waiting_ends(hub):
    hub.states = [("BUILDING", "new")]
    with pytest.raises(HubError, match="did not start within 20 minutes"):
        wait.wait("you/space", limit=1200)
    assert hub.now == [1200]
