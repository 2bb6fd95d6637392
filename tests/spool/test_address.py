"""Addresses of a spool over SSH: what is one, what is refused, and that text and back agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.address import Address, is_address, parse_address
from spool.errors import BadName

GOOD = {
    "sftp://primary/srv/spool": Address("primary", "/srv/spool"),
    "sftp://w1@primary/": Address("primary", "/", "w1"),
    "sftp://w1@primary:2222/a": Address("primary", "/a", "w1", 2222),
    "sftp://Primary/a": Address("Primary", "/a"),
    "SFTP://primary/a": Address("primary", "/a"),
    "sftp://10.0.0.1/a": Address("10.0.0.1", "/a"),
    "sftp://[::1]:22/a": Address("::1", "/a", None, 22),
    "sftp://[fe80::1%25eth0]/a": Address("fe80::1%eth0", "/a"),
    "sftp://primary/~/spool": Address("primary", "spool"),
    "sftp://primary/~": Address("primary", "."),
    "sftp://primary/~/": Address("primary", "."),
    "sftp://primary/~//spool": Address("primary", "spool"),
    "sftp://primary/%7E/spool": Address("primary", "/~/spool"),
    "sftp://primary/a%20b/%C3%BC": Address("primary", "/a b/ü"),
    "sftp://primary/a%3Fb%23c": Address("primary", "/a?b#c"),
    "sftp://w%40dom@primary/a": Address("primary", "/a", "w@dom"),
    "sftp://primary:/a": Address("primary", "/a"),
}
BAD = {
    "": "expected sftp://",
    "/srv/spool": "expected sftp://",
    "primary:/srv/spool": "expected sftp://",
    "ssh://primary/a": "expected sftp://",
    "sftp:///a": "expected sftp://",
    "sftp://primary": "path is missing",
    "sftp://w1@/a": "expected sftp://",
    "sftp://primary/a?b": "%3F",
    "sftp://primary/a#b": "%23",
    "sftp://primary:0/a": "port from 1 to 65535",
    "sftp://primary:65536/a": "port from 1 to 65535",
    "sftp://primary:ssh/a": "port from 1 to 65535",
    "sftp://[::1/a": "expected sftp://",
    "sftp://-oProxyCommand=x/a": "expected sftp://",
    "sftp://a$(id)/a": "expected sftp://",
    "sftp://a`id`/a": "expected sftp://",
    "sftp://a%20b/a": "expected sftp://",
    "sftp://-w@primary/a": "user's name",
    "sftp://a;id@primary/a": "user's name",
    "sftp://a%0Ab@primary/a": "user's name",
    "sftp://primary/a%00b": "control characters",
    "sftp://primary/a%0Ab": "control characters",
    "sftp://primary/a\nb": "control characters",
    "sftp://pri\tmary/a": "control characters",
    " sftp://primary/a": "spaces",
    "sftp://primary/%FF": "expected sftp://",
}


@pytest.mark.parametrize(("text", "address"), GOOD.items(), ids=GOOD.keys())
def test_what_an_address_says(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address
    assert is_address(text)


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=map(ascii, BAD))
def test_what_is_no_address_is_refused_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(BadName) as caught:
        parse_address(text)
    assert said in str(caught.value)
    assert "expected sftp://USER@HOST/PATH" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["/srv/spool", "spool", "./a:b", "C:/spool", "~/spool", ""])
def test_folders_are_no_addresses(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize("password", ["geheim", "ge/heim", "ge@heim", "1234567", "a:b", "ge heim"])
@pytest.mark.parametrize("rest", ["primary/a", "primary:22/a", "primary:x/a", "primary/a?b", ""])
def test_passwords_are_refused_and_never_shown(password: str, rest: str) -> None:
    with pytest.raises(BadName) as caught:
        parse_address(f"sftp://w1:{password}@{rest}")
    for part in ("geheim", "heim", "1234567", ":b@"):
        assert part not in str(caught.value)


_NAME = st.text("abcXYZ019._-~%?#@ :üß", min_size=1, max_size=8).filter(lambda s: s.strip() == s)
_FOLDERS = st.lists(_NAME.filter(lambda s: s != "."), min_size=1, max_size=3).map("/".join)


@given(
    st.sampled_from(["primary", "Primary.example", "10.0.0.1", "::1", "fe80::1%eth0"]),
    st.one_of(_FOLDERS, _FOLDERS.map("/{}".format), st.just("/~"), st.just("/~/a"), st.just(".")),
    st.none() | st.text("abcüA019._@:/%+", min_size=1, max_size=8),
    st.none() | st.integers(1, 65535),
)
def test_text_and_back(host: str, path: str, user: str | None, port: int | None) -> None:
    address = Address(host, path, user, port)
    assert parse_address(str(address)) == address
