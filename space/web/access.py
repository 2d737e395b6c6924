"""Who may use the app: host names, pages of other sites, signed-in visitors, and whose request it is."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

OTHER_SITE = "Requests from other sites aren't allowed."
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class Origins:
    """Which pages a request may come from.

    Args:
        root_path: the path, or the whole address, under which a proxy shows the app.
        hosts: names that a `Host` header may have; None for any.
        login: whether visitors sign in. Then no other site's page may send anything, with their cookies.
    """

    def __init__(self, root_path: str = "", hosts: frozenset[str] | None = None, login: bool = False):
        self.public, self.hosts, self.login = urlsplit(root_path).hostname, hosts, login

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is rejected because of the page that sent it; None if it is allowed.

        A browser sends a page's own address as `Origin` with what may change something and with WebSockets. An app that
        runs on the visitor's own machine serves only its own pages: others in the same browser get nothing, also not
        under a name that they let point to this machine (DNS rebinding).
        """
        headers = Headers(scope=scope)
        host = _hostname(headers.get("host"))
        forwarded = _hostname(headers.get("x-forwarded-host", "").split(",")[0].strip())  # each proxy may add one
        if self.hosts is not None and host not in (self.hosts | LOOPBACK | {self.public}) - {None}:
            return "This app doesn't accept this host name. Start it with --root-path set to its public URL."
        origin = headers.get("origin")
        if origin is None or scope.get("method") in ("GET", "HEAD"):
            return None
        own = LOOPBACK | {host, forwarded, self.public} - {None}
        return OTHER_SITE if (host in LOOPBACK or self.login) and _hostname(origin) not in own else None


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is of this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host in LOOPBACK


def _hostname(address: str | None) -> str | None:
    """The host of an address or of a `Host` header, without its port; None if it has none."""
    if not address or re.search(r"[@\\\\]", address):  # which browsers never send, and parsers read differently
        return None
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None


def signed_in(app, cookies: dict[str, str]) -> bool:
    """Whether a request with these cookies may use the app: Gradio's own rule, for the routes that it does not know."""
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies.get(name) in app.tokens for name in names)


def credentials(text: str) -> tuple[str, str]:
    """`user:password` → both. Raises ValueError with a sentence that does not repeat them."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("must be USER:PASSWORD")
    return user, password


def client_address(scope: Scope) -> str:
    """The client's address. X-Forwarded-For is trusted only from a proxy in the same network, as on Spaces."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        near = ipaddress.ip_address(host).is_private
    except ValueError:
        near = False
    if not near:
        return host
    # Each proxy appends whom it saw; what stands before the last one that is no proxy is the visitor's own text.
    for entry in reversed(dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(entry.strip()).is_private:
                return entry.strip()
    return host
