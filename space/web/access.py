"""Checks who may use the app: host names, origins, logins and client addresses."""

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
    """Checks which pages may send requests.

    Args:
        root_path: the path or full URL under which a proxy serves the app.
        hosts: names allowed in the `Host` header. None allows any.
        login: whether visitors sign in. If so, pages of other sites can't send requests: browsers would add the
            visitors' cookies.
    """

    def __init__(self, root_path: str = "", hosts: frozenset[str] | None = None, login: bool = False):
        self.public, self.hosts, self.login = urlsplit(root_path).hostname, hosts, login

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is rejected because of the page that sent it; None if it is allowed.

        A browser sends the page's address as `Origin` with WebSocket requests and with requests that can change data.
        An app on the visitor's own machine serves only its own pages. It rejects other pages in the same browser, even
        if their host name resolves to this machine (DNS rebinding).
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
    """Whether a listening address is reachable only from this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host in LOOPBACK


def _hostname(address: str | None) -> str | None:
    """The host of an address or of a `Host` header, without its port; None if it has none."""
    if not address or re.search(r"[@\\\\]", address):  # browsers never send these; URL parsers disagree on them
        return None
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None


def signed_in(app, cookies: dict[str, str]) -> bool:
    """Whether a request with these cookies may use the app, by Gradio's rule, for routes that Gradio doesn't know."""
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies.get(name) in app.tokens for name in names)


def credentials(text: str) -> tuple[str, str]:
    """Split `user:password`. Raises ValueError with a message that contains neither."""
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
    # Each proxy appends the address it saw. The visitor can forge all entries before the last public address.
    for entry in reversed(dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(entry.strip()).is_private:
                return entry.strip()
    return host
