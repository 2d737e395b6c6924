"""Writing to the Hub, for models and Spaces: access checks, retries and readable error messages."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, validate_repo_id

TIMEOUT = 60.0  # seconds without a byte before a request counts as lost
TRIES = 3  # at a commit that another one overtook, or that the server was too busy for
PATIENCE = 30.0  # seconds, longest wait that a busy server may ask for

PUBLIC = "{} exists and is public: --private is for new repositories. Change its visibility in its settings on the Hub."
_PUBLISHER = "hf_jwt_"  # how tokens of trusted publishers start: they have no user, and access to one repository only
_TOKEN = re.compile(r"(?:hf_|Bearer )[^'\"\s,;)]+")  # in the message of a transport that refuses a header
_LOCAL = (LookupError, TypeError, ValueError, MemoryError, PermissionError, FileNotFoundError)

Answer = TypeVar("Answer")


class HubError(RuntimeError):
    """The Hub refuses or cannot be reached; the message says why and what to do."""


def check_write_access(repo_id: str, *, kind: str = "model", others: bool = False) -> str:
    """Make sure that the token at hand can write to a repository; changes nothing on the Hub.

    Args:
        repo_id: `user/name`, or `name` alone: the token's user is put in.
        kind: "model" or "space".
        others: repositories of others are fine too (for pull requests).

    Returns:
        The whole `user/name`.

    Raises:
        HubError: no token, an invalid or read-only token, an invalid name, no write access, or no connection.
    """
    try:
        token = get_token()
    except (OIDCError, HTTPError) as error:
        raise HubError(
            f"The Hub gave this workflow no token ({error}). Check HF_OIDC_RESOURCE and the trusted publisher in the "
            "repository's settings on the Hub."
        ) from error
    if not token:
        raise HubError(
            "No Hub token found: run `hf auth login`, or set HF_TOKEN to a token with write permission "
            "(huggingface.co/settings/tokens)."
        )
    get_session().timeout = TIMEOUT
    if token.startswith(_PUBLISHER):
        try:
            HfApi().auth_check(repo_id, repo_type=kind, write=True)
        except Exception as error:
            raise to_hub_error(error, repo_id) from error
        return repo_id
    try:
        me = HfApi().whoami()
    except Exception as error:
        raise to_hub_error(error, repo_id) from error
    owner, _, name = repo_id.rpartition("/")
    repo_id = f"{owner or me['name']}/{name}"
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} isn't a valid repository name: {error}") from error
    access = (me.get("auth") or {}).get("accessToken") or {}
    scopes = (access.get("fineGrained") or {}).get("scoped") or []
    may_write = access.get("role") != "fineGrained" or any("repo.write" in s.get("permissions", ()) for s in scopes)
    if access.get("role") == "read" or not may_write:
        raise HubError(
            f"The token of {me['name']} is read-only: create one with write permission at "
            "huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN."
        )
    owners = [me["name"], *(org["name"] for org in me.get("orgs") or () if org.get("roleInOrg") != "read")]
    if repo_id.split("/")[0] not in owners and not others:
        raise HubError(f"{me['name']} cannot write to {repo_id}: choose a name under {' or '.join(owners)}.")
    return repo_id


def with_retries(attempt: Callable[[], Answer]) -> Answer:
    """The answer of `attempt`, which is made again when somebody else committed first or the server was busy."""
    for number in range(1, TRIES):
        try:
            return attempt()
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status not in (409, 412, 429, 500, 502, 503, 504):
                raise
            if status not in (409, 412):  # those go on top of the other commit at once
                asked = error.response.headers.get("Retry-After") or ""
                time.sleep(min(float(asked) if asked.isdigit() else 2.0**number, PATIENCE))
    return attempt()


def is_denied(error: Exception) -> bool:
    """Whether the Hub refuses access or finds nothing: another try fails too."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404)


def without_tokens(text: str) -> str:
    """A message in which no token is readable."""
    return _TOKEN.sub("<token>", text)


def to_hub_error(error: Exception, repo_id: str) -> HubError:
    """An error of the Hub client as a HubError, whose message says what happened and what to do."""
    if isinstance(error, HubError):
        return error
    # An upload's failure comes wrapped in an error that says only which file it was.
    cause: BaseException = error
    while getattr(cause, "response", None) is None and cause.__cause__ is not None:
        cause = cause.__cause__
    told: BaseException = error if getattr(cause, "response", None) is None else cause
    response = getattr(told, "response", None)
    status = getattr(response, "status_code", None)
    said = getattr(told, "server_message", None) or (str(told).strip() or type(told).__name__).splitlines()[0]
    said = without_tokens(said)[:200]
    if status == 401:
        text = "The Hub rejected the token: run `hf auth login` again, or set HF_TOKEN to a valid one."
    elif status == 403:
        text = (
            f"The token can't write to {repo_id} ({said}): use a token with write permission, or choose another "
            "repository."
        )
    elif status == 402:
        text = f"The Hub requires a paid plan for {repo_id} (402): {said}. See huggingface.co/pricing."
    elif isinstance(told, RevisionNotFoundError):
        text = f"The branch, tag or commit doesn't exist in {repo_id}: check --revision."
    elif status == 404 or isinstance(told, RepositoryNotFoundError):
        text = f"{repo_id} doesn't exist, or this token has no access to it: check the name and the token."
    elif status in (409, 412):
        text = f"Someone else is committing to {repo_id} at the same time ({said}): try again."
    elif status == 429:
        text = "The Hub's rate limit was reached: wait a few minutes, then try again."
    elif status and status >= 500:
        text = f"The Hub returned a server error (status {status}): check status.huggingface.co and try again."
    elif status:
        text = f"The Hub rejected the request for {repo_id} (status {status}): {said}"
    elif isinstance(told, _LOCAL) and not isinstance(told, HTTPError):
        text = f"The request failed before it reached the Hub: {type(told).__name__}: {said}"
    else:  # the client's transport has many kinds, bare RuntimeErrors among them
        text = f"The Hub can't be reached or closed the connection ({said}): check the network and try again."
    return HubError(text)
