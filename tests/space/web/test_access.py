"""Host names, origins and client addresses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from space.web import access


def guarded(
    headers: dict, *, method="POST", hosts=frozenset(), root_path="", path="/gradio_api/upload", allowed=()
) -> str | None:
    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    return access.Origins(root_path, hosts, frozenset(allowed)).refusal(scope)


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


def test_requests_from_other_sites_are_rejected_unless_allowed():
    page = {"Host": "192.168.1.5:7860", "Origin": "https://other.example"}
    assert guarded(page, hosts=None)
    assert guarded(page, hosts=None, allowed=["https://third.example"])
    assert guarded(page, hosts=None, allowed=["https://other.example"]) is None
    assert guarded(page, hosts=None, allowed=["*"]) is None
    assert guarded({**page, "Origin": "http://192.168.1.5:7860"}, hosts=None) is None
    assert guarded({**page, "Origin": "http://localhost:7860"}, hosts=None)  # a page of the visitor's own machine
    assert guarded({**page, "Origin": "http://192.168.1.5:8080"}, hosts=None)  # another app on the same machine
    assert guarded({"Host": "localhost:7860", "Origin": "http://localhost:9999"})
    assert guarded({"Host": "localhost:7860", "Origin": "http://127.0.0.1:7860"}) is None
    assert (
        guarded({"Host": "age.example", "Origin": "https://age.example:8443"}, hosts=None) is None
    )  # as nginx sends it
    assert guarded({"Host": "age.example:80", "Origin": "http://age.example"}, hosts=None) is None
    assert guarded({"Host": "age.example:443", "Origin": "http://age.example"}, hosts=None)


def test_in_a_network_only_its_own_names_reach_the_app():
    for host in ("192.168.1.5:7860", "[fe80::1]:7860", "box:7860", "box.local", "box.lan:7860", "localhost:7860"):
        assert guarded({"Host": host}, hosts=frozenset(("0.0.0.0",))) is None, host
    for host in ("evil.example:7860", "192.168.1.5.evil.example", "local"[:0], "a.b"):
        assert guarded({"Host": host}, hosts=frozenset(("0.0.0.0",))), host
    assert guarded({"Host": "age.example"}, hosts=frozenset(("0.0.0.0",)), root_path="https://age.example/a") is None
    assert guarded({"Host": "box.local"}, hosts=frozenset(("127.0.0.1",)))


def test_the_client_address_is_the_one_that_the_nearest_proxy_saw(monkeypatch):
    def address(client, forwarded):
        return access.client_address({"client": (client, 1), "headers": [(b"x-forwarded-for", forwarded)]})

    assert address("8.8.8.8", b"1.1.1.1") == "8.8.8.8"
    assert address("127.0.0.1", b"9.9.9.9, 1.1.1.1, 10.0.0.2") == "1.1.1.1"
    assert address("127.0.0.1", b"anything") == address("127.0.0.1", b"") == "127.0.0.1"
    assert address("10.0.0.1", b"1.1.1.1") == "10.0.0.1"  # a neighbor in the same network makes it up
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1, 10.0.0.2")
    assert address("10.0.0.1", b"1.1.1.1") == "1.1.1.1" and address("10.0.0.3", b"1.1.1.1") == "10.0.0.3"
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    monkeypatch.setenv("SPACE_ID", "you/age")  # every request comes through the proxy of Spaces
    assert address("10.0.0.3", b"1.1.1.1") == "1.1.1.1" and address("8.8.8.8", b"1.1.1.1") == "8.8.8.8"


def test_all_addresses_of_an_ipv6_network_count_as_one_visitor():
    def key(client):
        return access.client_key({"client": (client, 1), "headers": []})

    assert key("2a00:1450:4001:81b::1") == key("2a00:1450:4001:81b:ffff::2") != key("2a00:1450:4001:81c::1")
    assert key("::ffff:8.8.8.8") == key("8.8.8.8") == "8.8.8.8" != key("8.8.8.9")
    assert key("") == "" and key("testclient") == "testclient"


def test_guessing_passwords_becomes_slow(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: clock[0])
    logins, waits = access.Logins(), []
    for _ in range(2000):  # a number for which 2 to its power is no float any more
        waits.append(logins.wait("1.1.1.1"))
        clock[0] += waits[-1]
        logins.begin("1.1.1.1")
    assert waits[:10] == [0] * 10 and waits[10:14] == [1, 2, 4, 8] and waits[-1] == access.MAX_PAUSE
    assert logins.wait("2.2.2.2") == 0
    logins.succeed("1.1.1.1")
    assert logins.wait("1.1.1.1") == 0
    for number in range(access.MAX_ADDRESSES + 10):
        logins.begin(str(number))
    assert len(logins._failures) == access.MAX_ADDRESSES


def test_only_a_cookie_of_a_login_lets_in():
    app = SimpleNamespace(auth={"me": "x"}, cookie_id="id", tokens={"good": "me"})

    def admitted(cookies: dict[str, str]) -> bool:
        return access.signed_in(SimpleNamespace(app=app, cookies=cookies))

    assert admitted({"access-token-id": "good"}) and admitted({"access-token-unsecure-id": "good"})
    for cookies in ({}, {"access-token-id": "bad"}, {"access-token": "good"}, {"access-token-other": "good"}):
        assert not admitted(cookies)
    app.auth = None
    assert admitted({})


def test_of_many_addresses_the_last_ones_are_remembered(monkeypatch):
    monkeypatch.setattr(access, "MAX_ADDRESSES", 3)
    logins = access.Logins()
    for number in range(5):
        logins.begin(str(number))
    assert set(logins._failures) == {"2", "3", "4"}


@pytest.mark.parametrize("text", ["alone", ":x", "x:", ""])
def test_a_login_has_a_user_and_a_password(text):
    assert access.credentials("me:se:cret") == ("me", "se:cret")
    with pytest.raises(ValueError, match="USER:PASSWORD"):
        access.credentials(text)
