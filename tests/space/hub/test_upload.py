"""Requests that write to the Hub: retries, and what their failures are called."""

from __future__ import annotations

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from space.hub import upload


@pytest.mark.parametrize(
    ("status", "after", "waits"),
    [
        (409, None, []),  # on top of the other commit at once
        (412, "9", []),
        (429, "9", [9, 9]),
        (429, "3600", [30, 30]),
        (503, None, [2, 4]),
        (500, "Wed, 21 Oct 2026 07:28:00 GMT", [2, 4]),
    ],
)
def test_busy_servers_are_asked_three_times_with_waits_of_at_most_30_seconds(monkeypatch, status, after, waits):
    slept, attempts = [], []
    monkeypatch.setattr(upload.time, "sleep", slept.append)

    def attempt():
        attempts.append(status)
        headers = {"Retry-After": after} if after else {}
        raise HfHubHTTPError("no", response=httpx.Response(status, headers=headers, request=httpx.Request("POST", "/")))

    with pytest.raises(HfHubHTTPError):
        upload.with_retries(attempt)
    assert len(attempts) == 3 and slept == waits
    slept.clear()
    answers = iter([attempt, attempt, lambda: "done"])
    assert upload.with_retries(lambda: next(answers)()) == "done" and slept == waits


def test_denied_requests_are_told_from_failures():
    denied = [status for status in range(400, 504) if upload.is_denied(_error(status))]
    assert denied == [401, 403, 404] and not upload.is_denied(OSError("no network"))


def _error(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("POST", "/")))


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusals_are_not_repeated(monkeypatch, status):
    monkeypatch.setattr(upload.time, "sleep", lambda _: pytest.fail("it waited"))
    attempts = []

    def attempt():
        attempts.append(status)
        raise HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("POST", "/")))

    with pytest.raises(HfHubHTTPError):
        upload.with_retries(attempt)
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "rejected the request for you/kit (status 400): no"),
        (401, "hf auth login"),
        (402, "requires a paid plan for you/kit (402): no."),
        (403, "can't write to you/kit"),
        (404, "doesn't exist"),
        (409, "at the same time"),
        (412, "at the same time"),
        (429, "rate limit"),
        (500, "server error (status 500)"),
        (503, "server error (status 503)"),
    ],
)
def test_each_status_has_a_sentence_of_its_own(status, words):
    refused = HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("POST", "/")))
    wrapped = RuntimeError("Error while uploading 'model.onnx' to the Hub.")
    wrapped.__cause__ = refused
    for error in (refused, wrapped):
        told = upload.to_hub_error(error, "you/kit")
        assert words in str(told) and upload.to_hub_error(told, "you/kit") is told


def test_a_missing_branch_is_not_reported_as_a_missing_repository():
    response = httpx.Response(404, request=httpx.Request("POST", "/"))
    told = str(upload.to_hub_error(RevisionNotFoundError("no", response=response), "you/kit"))
    assert "The branch, tag or commit doesn't exist in you/kit" in told


def test_failures_without_an_answer_are_of_the_network_or_of_this_machine():
    assert "check the network" in str(upload.to_hub_error(httpx.ConnectError("refused\nmore"), "you/kit"))
    assert "before it reached the Hub: ValueError: no such file" in str(
        upload.to_hub_error(ValueError("no such file"), "you/kit")
    )


class Api:
    """The Hub as `me`, who is in the organization `team`."""

    def __init__(self, **token):
        self.token = token

    def __call__(self):
        return self

    def whoami(self):
        orgs = [{"name": "team", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}]
        return {"name": "me", "orgs": orgs, "auth": {"accessToken": self.token}}


FINE = {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.content.read"]}]}}
WRITING = {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["x"]}, {"permissions": ["repo.write"]}]}}


@pytest.mark.parametrize(
    ("token", "repo_id", "others", "answer"),
    [
        ({"role": "write"}, "kit", False, "me/kit"),
        ({"role": "write"}, "team/kit", False, "team/kit"),
        (WRITING, "me/kit", False, "me/kit"),
        ({"role": "write"}, "you/kit", True, "you/kit"),
        ({"role": "write"}, "you/kit", False, "cannot write to you/kit: choose a name under me or team"),
        ({"role": "write"}, "readers/kit", False, "cannot write to readers/kit: choose a name under me or team"),
        ({"role": "write"}, "a b", False, "isn't a valid repository name"),
        ({"role": "read"}, "kit", False, "read-only"),
        (FINE, "kit", False, "read-only"),
    ],
)
def test_who_can_write_where(monkeypatch, token, repo_id, others, answer):
    monkeypatch.setattr(upload, "get_token", lambda: "hf_x")
    monkeypatch.setattr(upload, "HfApi", Api(**token))
    if "/" in answer and " " not in answer:
        assert upload.check_write_access(repo_id, others=others) == answer
    else:
        with pytest.raises(upload.HubError, match=answer):
            upload.check_write_access(repo_id, others=others)


def test_without_a_token_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(upload, "get_token", lambda: None)
    monkeypatch.setattr(upload, "HfApi", lambda: pytest.fail("asked"))
    with pytest.raises(upload.HubError, match="hf auth login"):
        upload.check_write_access("kit")


def test_no_message_repeats_a_token():
    text = str(upload.to_hub_error(ValueError("Illegal header value b'Bearer hf_SECRET\\n'"), "you/kit"))
    assert "SECRET" not in text and "Illegal header value b'<token>" in text
    assert upload.without_tokens("token hf_abc, then") == "token <token>, then"
