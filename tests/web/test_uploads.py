"""Forms: every split of the body reads the same, and limits hold."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from web import uploads
from web.problems import Problem


class Kept:
    """What Upload is to the form: the only double here, for bytes that need no disk."""

    def __init__(self) -> None:
        self.data, self.size, self.discarded = b"", 0, False

    def write(self, data: bytes) -> None:
        assert not self.discarded
        self.data += data
        self.size += len(data)

    def discard(self) -> None:
        self.discarded = True


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, as a network does."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__(data)
        self._sizes = sizes

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and 0 < size <= uploads.PIECE
        return super().read(min(size, self._sizes.pop() if self._sizes else size))


def environ(body: bytes, kind: str, stream: io.BytesIO | None = None) -> dict[str, Any]:
    return {
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": stream or io.BytesIO(body),
    }


MULTIPART = "multipart/form-data; boundary=XX"


@settings(max_examples=50)
@given(st.binary(max_size=300), st.lists(st.integers(1, 9), max_size=300))
def test_every_split_reads_the_same(file: bytes, sizes: list[int]) -> None:
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="job_name"\r\n\r\n\xc3\xa4 \r\n'
        b'--XX\r\nContent-Disposition: form-data; name="zip_file"; filename="f"\r\n\r\n'
        b"PK" + file + b"\r\n--XX--\r\n"
    )
    kept: list[Kept] = []

    def receive() -> Any:
        kept.append(Kept())
        return kept[-1]

    with uploads.received(environ(body, MULTIPART, Dribble(body, sizes)), receive) as form:
        assert form.fields == {"job_name": "ä "} and form.get("job_name") == "ä"
        if b"\r\n--XX" not in file:
            assert kept[0].data == b"PK" + file
        assert not kept[0].discarded
    assert kept[0].discarded


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = b"--XX--\r\n"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (part("a", b"x" * (uploads.MAX_FIELD + 1)) + END, 413, "a"),
        (part("a", b"1") + part("a", b"2") + END, 400, "a"),
        (part("zip_file", b"1", '; filename="f"') * 2 + END, 400, "zip_file"),
        (part("model", b"1", '; filename="f"') + END, 400, "model"),
        (part("zip_file", b"", '; filename="f.zip"') + END, 400, "zip_file"),
        (part("a", b"\xff") + END, 400, "a"),
        (b"".join(part(str(n), b"1") for n in range(uploads.MAX_FIELDS + 1)) + END, 400, None),
        (part("a", b"1"), 400, None),
        (b"nothing of the kind", 400, None),
        (b"", 400, None),
        (b"--XX\r\n" + b"h" * 9000, 400, None),
    ],
)
def test_a_form_that_is_refused(body: bytes, status: int, field: str | None) -> None:
    kept: list[Kept] = []

    def receive() -> Any:
        kept.append(Kept())
        return kept[-1]

    with (
        pytest.raises(Problem) as caught,
        uploads.received(environ(body, MULTIPART), receive),
    ):
        pass
    assert (caught.value.status, caught.value.field) == (status, field)
    assert all(upload.discarded for upload in kept)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("multipart/form-data", 400),
        ("text/plain", 415),
        ("", 415),
        ("application/json", 415),
    ],
)
def test_a_body_of_another_kind(kind: str, status: int) -> None:
    receive: Any = Kept
    with pytest.raises(Problem) as caught, uploads.received(environ(b"x", kind), receive):
        pass
    assert caught.value.status == status


def test_a_body_that_ends_early() -> None:
    receive: Any = Kept
    short = environ(b"abc", MULTIPART) | {"CONTENT_LENGTH": "9"}
    with pytest.raises(Problem, match="6 bytes did not arrive"), uploads.received(short, receive):
        pass


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"a=%ff", 400),
        (b"a=1&a=2", 400),
        (b"\xff", 400),
        (b"zip_file=x", 400),
        (b"&".join(b"%d=1" % n for n in range(uploads.MAX_FIELDS + 1)), 400),
        (b"a=" + b"x" * 5 * uploads.MAX_FIELD, 413),
    ],
)
def test_a_urlencoded_form_that_is_refused(body: bytes, status: int) -> None:
    receive: Any = Kept
    with pytest.raises(Problem) as caught, uploads.received(environ(body, URLENCODED), receive):
        pass
    assert caught.value.status == status


def test_a_urlencoded_form() -> None:
    body, receive = b"job_name=%C3%A4+b&model=m&empty=", Kept
    any_receive: Any = receive
    with uploads.received(environ(body, URLENCODED), any_receive) as form:
        assert form.fields == {"job_name": "ä b", "model": "m", "empty": ""}
