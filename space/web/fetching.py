"""Fetches public images that requests name by URL, for apps started with `--allow-urls`.

The server must not become a way into its own network (server-side request forgery). So each host is resolved once, the
connection goes to the address that was checked, and every redirect is checked in the same way.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

from ..photo import is_image
from .uploads import UploadError, folder

MAX_BYTES = 20_000_000  # of an image
MAX_SECONDS = 15.0  # from the first connection to the last byte; the system decides how long it looks a host up
MIN_FREE_BYTES = 500_000_000  # that must be free where images go
MAX_REDIRECTS = 3
MAX_URL = 2000  # characters
PORTS = (80, 443)
_UNICAST = ipaddress.ip_network("2000::/3")  # all that the internet has; others may stand for private IPv4 addresses
_WRONG = "The URL must point to a public image and start with https:// or http://."
_NO_ANSWER = "The server at this URL doesn't answer in time, or isn't public."
_TOO_LARGE = f"The image at this URL is too large: the limit is {MAX_BYTES // 1_000_000} MB."


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if inner is not None:
        return is_public(str(inner))
    if ip.version == 6 and (ip not in _UNICAST or getattr(ip, "teredo", None)):
        return False
    return ip.is_global and not ip.is_multicast


def fetch(url: str) -> tuple[str, str]:
    """Fetch an image into the folder of uploads; returns its path and its name.

    Raises:
        UploadError: it isn't the URL of a public image of at most MAX_BYTES, or the server doesn't answer in time.
    """
    end = time.monotonic() + MAX_SECONDS
    try:
        for _ in range(MAX_REDIRECTS + 1):
            with _connected(url, end) as connection:
                response = connection.getresponse()
                if response.status in (301, 302, 303, 307, 308):
                    url = _redirected(url, response.headers.get("location", ""))
                    continue
                if response.status != 200:
                    raise UploadError(f"The server at this URL returned status {response.status}.")
                content = _read(response)
            if time.monotonic() > end:
                raise TimeoutError("cut off")
            name = _name(url)
            return _save(content, name), name
        raise UploadError("This URL redirects too many times.")
    except (OSError, http.client.HTTPException):  # the text of which would tell of networks
        raise UploadError(_NO_ANSWER) from None
    except UploadError:
        if time.monotonic() > end:  # what has arrived until then is wrong in some other way
            raise UploadError(_NO_ANSWER) from None
        raise


@contextlib.contextmanager
def _connected(url: str, end: float) -> Iterator[http.client.HTTPConnection]:
    """A connection on which the request has been sent, to an address that has been checked. At `end` it is cut."""
    try:
        parts = urlsplit(url)
        host, secure = parts.hostname, {"https": True, "http": False}[parts.scheme]
        port = parts.port or (443 if secure else 80)
    except (ValueError, KeyError):
        raise UploadError(_WRONG) from None
    if not host or len(url) > MAX_URL or parts.username is not None or parts.password is not None or port not in PORTS:
        raise UploadError(_WRONG)
    # All addresses must be public: a name may have several, and the next look-up others.
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError:  # a label that is too long or empty
        raise UploadError(_WRONG) from None
    if not found or not all(map(is_public, found)):
        raise OSError("not public")
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection((found[0], port), timeout=_left(end)))
        # A server could send a byte now and then forever: the connection ends, whatever waits for it.
        cut = threading.Timer(_left(end), stack.enter_context(plain.dup()).shutdown, [socket.SHUT_RDWR])
        cut.daemon = True
        cut.start()
        stack.callback(cut.cancel)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = plain
        if secure:
            connection.sock = stack.enter_context(ssl.create_default_context().wrap_socket(plain, server_hostname=host))
        stack.callback(connection.close)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "age-gender"}
        connection.request("GET", _quoted(target), headers=headers)
        yield connection


def _redirected(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise UploadError(_WRONG) from None


def _read(response: http.client.HTTPResponse) -> bytes:
    if (response.length or 0) > MAX_BYTES:
        raise UploadError(_TOO_LARGE)
    content = bytearray()
    while part := response.read1(65_536):
        content += part
        if len(content) > MAX_BYTES:
            raise UploadError(_TOO_LARGE)
        if len(content) >= 32 and not is_image(bytes(content[:32])):
            break
    # Whatever the server calls it.
    if not is_image(bytes(content[:32])):
        raise UploadError("There is no image at this URL. Open the image itself in the browser and copy that URL.")
    if response.length:
        raise OSError("incomplete")
    return bytes(content)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("too slow")
    return left


def _quoted(target: str) -> str:
    """A path and query as they may stand in a request: nothing in them ends its line."""
    return "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)


def _name(url: str) -> str:
    """A name for any file system, from the path of a URL."""
    name = re.sub(r"[^\w.-]+", " ", PurePosixPath(unquote(urlsplit(url).path)).name)
    return name.encode()[-200:].decode(errors="ignore").strip(". ") or "image"


def _save(content: bytes, name: str) -> str:
    """Beside the uploads, with which it is deleted."""
    if shutil.disk_usage(folder()).free < MIN_FREE_BYTES:
        raise UploadError("The server has no room for this image. Try again later.")
    path = os.path.join(tempfile.mkdtemp(dir=folder()), name)
    with open(path, "xb") as file:
        file.write(content)
    return path
