"""Checks who may use the app: host names, origins, logins and client addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import time
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import Scope

OTHER_SITE = "Requests from other sites aren't allowed."
FREE_FAILURES = 10  # logins of an address that may fail before it has to wait
MAX_PAUSE, FORGET = 300.0, 3600.0  # seconds: longest wait, and time after which failures are forgotten
MAX_ADDRESSES = 10_000  # whose failures are remembered
LOCAL_SUFFIXES = (".local", ".lan", ".home", ".internal", ".home.arpa", ".localhost")
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class Origins:
    """Checks which pages may send requests.

    Args:
        root_path: the path or full URL under which a proxy serves the app.
        hosts: the names that the app listens on. Requests for other names are rejected. IP addresses and
            local network names are accepted if one of `hosts` isn't a loopback name. None allows any.
        allowed: origins of other sites that may use the app, such as "https://example.org", or "*" for all.
    """

    def __init__(self, root_path: str = "", hosts: frozenset[str] | None = None, allowed: frozenset[str] = frozenset()):
        self.root_path, self.public = root_path, urlsplit(root_path).hostname
        self.hosts, self.allowed = hosts, allowed
        self.network = hosts is not None and not all(is_loopback(host) for host in hosts)

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is rejected because of the page that sent it; None if it is allowed.

        Host names of other sites are rejected, even if they resolve to this machine (DNS rebinding).
        """
        host = _hostname(Headers(scope=scope).get("host"))
        if not self._is_own(host):
            return "This app doesn't accept this host name. Start it with --root-path set to its public URL."
        if self.is_foreign(scope) and scope.get("method") not in ("GET", "HEAD"):
            return OTHER_SITE
        return None

    def is_foreign(self, scope: Scope) -> bool:
        """Whether the request comes from a page of another site that isn't allowed to use the app.

        A browser sends the page's address as `Origin` with WebSocket requests, and with requests that can change data
        or whose answer a page of another site wants to read.
        """
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or self.allowed & {origin, "*"}:
            return False
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()  # each proxy may add one
        own = (headers.get("host"), forwarded, self.root_path)
        return not any(_is_same_site(origin, address) for address in own if address)

    def _is_own(self, host: str | None) -> bool:
        """Whether a host name is one under which this app is reached."""
        if self.hosts is None:
            return True
        named = self.hosts | LOOPBACK | {self.public}
        return host is not None and (host in named or (self.network and is_local(host)))


def is_loopback(host: str) -> bool:
    """Whether a listening address is reachable only from this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host in LOOPBACK


def is_local(host: str) -> bool:
    """Whether a host name is an IP address, or a name that only the local network knows."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return True
    return "." not in host or host.endswith(LOCAL_SUFFIXES)


def _is_same_site(origin: str, address: str) -> bool:
    """Whether a page's origin has the host of an address, and its port if that names one. Loopback names are alike."""
    host, own = _hostname(origin), _hostname(address)
    if host is None or not (host == own or {host, own} <= LOOPBACK):
        return False
    port = _port(address)
    return port is None or port == (_port(origin) or {"http": 80, "https": 443}.get(origin.partition(":")[0]))


def _port(address: str) -> int | None:
    """The port in an address or a `Host` header, None if it names none."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return 0  # no port that there is


def _hostname(address: str | None) -> str | None:
    """The host of an address or of a `Host` header, without its port; None if it has none."""
    if not address or re.search(r"[@\\]", address):  # browsers never send these; URL parsers disagree on them
        return None
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None


def signed_in(request: HTTPConnection) -> bool:
    """Whether a request may use the app, by Gradio's rule, for routes that Gradio doesn't know."""
    app = request.app
    return app.auth is None or any(request.cookies.get(name) in app.tokens for name in _cookies(app))


def sign_out(request: HTTPConnection, prefix: str) -> RedirectResponse:
    """End the visitor's own session. Gradio's route would end those of all visitors with the same user name.

    `prefix`: the path under which a proxy serves the app.
    """
    response = RedirectResponse(f"{prefix}/", 302)
    for name in _cookies(request.app):
        request.app.tokens.pop(request.cookies.get(name), None)
        response.delete_cookie(name, f"{prefix}/")
    return response


def _cookies(app) -> tuple[str, str]:
    """The names of Gradio's cookies for logins over HTTPS and HTTP."""
    return f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}"


def credentials(text: str) -> tuple[str, str]:
    """Split `user:password`. Raises ValueError with a message that contains neither."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("must be USER:PASSWORD")
    return user, password


def client_address(scope: Scope) -> str:
    """The client's address. `X-Forwarded-For` is trusted only from a proxy, see `is_proxy`."""
    host = (scope.get("client") or ("", 0))[0]
    if not is_proxy(host):
        return host
    # Each proxy appends the address it saw. The visitor can forge all entries before the last public address.
    for entry in reversed(dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(entry.strip()).is_private:
                return entry.strip()
    return host


def client_key(scope: Scope) -> str:
    """By what each visitor is limited: the client's address; of IPv6 its /64 network, all of which is one visitor's."""
    text = client_address(scope)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return text
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def key_of(request: HTTPConnection) -> str:
    """`client_key` of a request."""
    return client_key(request.scope)


def is_proxy(host: str) -> bool:
    """Whether this address is a proxy whose `X-Forwarded-For` header is trusted.

    Those are programs on this machine, addresses in `FORWARDED_ALLOW_IPS` (separated by commas, or *; as for Uvicorn),
    and on Spaces the addresses of their network.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    named = {name.strip() for name in os.environ.get("FORWARDED_ALLOW_IPS", "").split(",")}
    return address.is_loopback or bool(named & {host, "*"}) or ("SPACE_ID" in os.environ and address.is_private)


class Logins:
    """Slows down whoever guesses passwords: after FREE_FAILURES failures, an address waits twice as long each time."""

    def __init__(self):
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 if it may now."""
        count, last = self._failures.get(address, (0, 0.0))
        pause = min(2.0 ** min(count - FREE_FAILURES, 20), MAX_PAUSE) if count >= FREE_FAILURES else 0.0
        return max(0.0, last + pause - time.monotonic())

    def succeed(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.pop(address, None)

    def begin(self, address: str) -> None:
        """Count an attempt before its outcome is known, so that simultaneous attempts are all counted."""
        count, last = self._failures.pop(address, (0, 0.0))
        forgotten = time.monotonic() - last > FORGET
        self._failures[address] = (1 if forgotten else count + 1), time.monotonic()
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
