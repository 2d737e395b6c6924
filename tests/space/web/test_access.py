"""Host names, origins and client addresses."""

from __future__ import annotations

from space.web import access


def guarded(
    headers: dict, *, method="POST", hosts=frozenset(), root_path="", path="/gradio_api/upload", login=False
) -> str | None:
    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    return access.Origins(root_path, hosts, login).refusal(scope)


def test_origins_behind_a_proxy():
    page = {"Origin": "https://age.example"}
    assert guarded({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "age.example", **page}) is None
    assert guarded({"Host": "age.example", **page}, root_path="https://age.example/age") is None
    assert guarded({"Host": "127.0.0.1:7860", **page}, root_path="https://age.example/age") is None
    assert guarded({"Host": "age.example", **page})  # this host name isn't configured
    assert guarded({"Host": "age.example", **page}, hosts=None) is None  # any host name is allowed, as on a Space
    assert guarded({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "age.example", "Origin": "https://other.example"})
    assert guarded({"Host": "127.0.0.1:7860"}) is None  # a program, which sends no Origin
    several = {"Host": "127.0.0.1:7860", "X-Forwarded-Host": "age.example, inner", **page}
    assert guarded(several, root_path="/age") is None
    for host in ({}, {"Host": ""}, {"Host": "[bad"}):
        assert guarded({**host, "Origin": "http://evil.example"})
    assert access.is_loopback("127.0.0.2") and access.is_loopback("::1") and not access.is_loopback("0.0.0.0")


def test_addresses_that_parsers_read_differently_are_refused():
    for host in ("x@localhost", "evil.example\\@127.0.0.1"):
        assert guarded({"Host": host}), host
    assert guarded({"Host": "127.0.0.1:7860", "Origin": "http://evil.example\\@127.0.0.1"})


def test_with_a_login_requests_from_other_sites_are_rejected():
    page = {"Host": "age.example", "Origin": "https://other.example"}
    assert guarded(page, hosts=None) is None  # a public API
    assert guarded(page, hosts=None, login=True)
    assert guarded({**page, "Origin": "https://age.example"}, hosts=None, login=True) is None


def test_the_client_address_is_the_one_that_the_nearest_proxy_saw():
    def address(client, forwarded):
        return access.client_address({"client": (client, 1), "headers": [(b"x-forwarded-for", forwarded)]})

    assert address("8.8.8.8", b"1.1.1.1") == "8.8.8.8"
    assert address("10.0.0.1", b"9.9.9.9, 1.1.1.1, 10.0.0.2") == "1.1.1.1"
    assert address("10.0.0.1", b"anything") == address("10.0.0.1", b"") == "10.0.0.1"
