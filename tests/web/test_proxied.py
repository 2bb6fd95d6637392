"""What is believed of a proxy's headers."""

from __future__ import annotations

import pytest

from web.proxied import MARK, is_prefix, may_send, told


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("6.6.6.6, 10.1.2.3", "10.1.2.3"),
        ("10.1.2.3,  2001:DB8::1 ", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("fe80::1%eth0 or anything", "fe80::1"),
        ("10.1.2.3, unknown", None),
        ("10.1.2.3, ", None),
        ("\xff\xfe", None),
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_last_address_is_the_clients(peer: str, chain: str, client: str | None) -> None:
    changes = told({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": chain})
    assert changes.get("REMOTE_ADDR") == client and changes[MARK] is True


def test_the_scheme() -> None:
    common = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3"}
    for scheme, believed in (("https", "https"), ("http", "http"), ("ftp", None), ("", None)):
        changes = told(common | {"HTTP_X_FORWARDED_PROTO": scheme})
        assert changes.get("wsgi.url_scheme") == believed


def test_who_is_no_proxy_of_ours_changes_nothing() -> None:
    forged = {"HTTP_X_FORWARDED_FOR": "10.1.2.3", "HTTP_X_FORWARDED_PROTO": "https"}
    for peer in ("10.6.6.6", "2001:db8::6", "", "localhost"):
        assert told({"REMOTE_ADDR": peer, **forged}) == {}
    past_it = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": "https"}
    assert told(past_it) == {}


def test_who_may_send_files() -> None:
    assert may_send({MARK: True})
    assert not may_send({}) and not may_send({f"HTTP_{MARK.upper()}": "1"})
    assert not may_send({MARK: True, "HTTP_IF_MATCH": '"x"'})


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("/finished/", True),
        ("/a/b-c_1/", True),
        *((bad, False) for bad in ("/", "finished/", "/finished", "//", "/a//", "/../", "/a b/")),
        *((bad, False) for bad in ("/a/\n", "/%2e/", "/a\r\nX: y/", "")),
    ],
)
def test_prefixes(text: str, good: bool) -> None:
    assert is_prefix(text) is good
