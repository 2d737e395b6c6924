"""Waiting for a Space to run, and the end of its log if it fails."""

from __future__ import annotations

import itertools
import time

from huggingface_hub import HfApi

from .upload import HubError, is_denied, to_hub_error

LOG_LINES = 30  # of a failed build, shown
SETTLE = 30.0  # seconds until a Hub that doesn't say which commit runs is believed
POLL = 5.0  # seconds between two looks at a build
FAILURES = 5  # in a row, after which the Hub counts as unavailable
_FAILED = ("BUILD_ERROR", "CONFIG_ERROR", "RUNTIME_ERROR", "NO_APP_FILE", "PAUSED", "STOPPED", "DELETING")


def wait(space: str, *, limit: float = 900.0) -> None:
    """Wait until the Space runs its newest commit.

    Raises:
        HubError: it failed, with the end of its build log, or did not come up within `limit` seconds.
    """
    api, started, failures = HfApi(), time.monotonic(), 0
    while time.monotonic() < started + limit:
        try:
            runtime, newest = api.get_space_runtime(space), api.space_info(space).sha
            failures = 0
        except Exception as error:
            failures += 1
            if failures == FAILURES or is_denied(error):
                raise to_hub_error(error, space) from error
            time.sleep(POLL)
            continue
        stage, built = str(runtime.stage), (runtime.raw or {}).get("sha")
        # Right after a commit the old build still runs.
        if stage == "RUNNING" and (built == newest or (built is None and time.monotonic() > started + SETTLE)):
            return
        if stage in _FAILED and built in (None, newest):
            raise HubError(f"The Space is in state {stage}. The end of its log:\n{_log(api, space, stage)}")
        time.sleep(POLL)
    raise HubError(f"The Space did not start within {limit / 60:.0f} minutes: check its page.")


def _log(api: HfApi, space: str, stage: str) -> str:
    try:
        lines = list(itertools.islice(api.fetch_space_logs(space, build=stage == "BUILD_ERROR"), 100_000))
    except Exception as error:  # the failure itself matters more than its log
        return f"  (unavailable: {error})"
    return "\n".join(f"  {line.rstrip()}" for line in lines[-LOG_LINES:])
