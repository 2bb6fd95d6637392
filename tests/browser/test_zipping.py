"""The zips that the browser writes, and what it reads out of others, against Python's own."""

from __future__ import annotations

import base64
import io
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from spool import archive
from spool.errors import BadZip
from tests import browsing
from tests.system import System

FILES: dict[str, bytes] = {
    "a.txt": b"the same again and again\n" * 20_000,  # above what is read at once
    "empty": b"",
    "folder/deep/er/b.bin": random.Random(1).randbytes(400_000),  # does not get smaller
    "folder/small.csv": b"day,flow\n1,2\n",
    "gr\u00fc\u00df dich \u6c34.txt": "\u00e4".encode(),
}

# Runs in the page: files by name, base64, to a zip, base64.
ZIP = """async ([files, deflate]) => {
  const { zip } = await import("/static/zipping.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const made = (path, text) =>
    new File([bytes(text)], path.split("/").pop(), { lastModified: 1411597282000 });
  const items = files.map(([path, text]) => ({ path, file: made(path, text) }));
  let read = 0;
  const blob = await zip(items, (more) => { read += more; }, undefined, deflate);
  const data = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(blob);
  });
  return [data ?? "", read];
}"""

# Runs in the page: what zipcheck.js says of a file.
LOOK = """async ([text, most]) => {
  const { entriesOf, contentOf } = await import("/static/zipcheck.js");
  const { crc32 } = await import("/static/zipping.js");
  const blob = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  try {
    const entries = await entriesOf(blob);
    const found = [];
    for (const { name, size, folder, fault, ...entry } of entries) {
      const content = fault ? null : await contentOf(blob, entry, most);
      const summed = content && [content.length, crc32(content)];
      found.push({ name, size, folder, fault, content: summed });
    }
    return found;
  } catch (error) {
    return error.message;
  }
}"""


@pytest.fixture(scope="module")
def tab(chromium: Browser, site: System) -> Iterator[Page]:
    with browsing.opened(chromium, site.address) as page:
        page.goto("/jobs/submit")
        yield page


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def zipped(tab: Page, files: dict[str, bytes], deflate: bool = True) -> bytes:
    items = [[name, encoded(data)] for name, data in files.items()]
    text, read = tab.evaluate(ZIP, [items, deflate])
    assert read == sum(map(len, files.values()))
    return base64.b64decode(text)


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "stored"])
def test_what_the_browser_writes_is_a_zip(tab: Page, deflate: bool) -> None:
    data = io.BytesIO(zipped(tab, FILES, deflate))
    with zipfile.ZipFile(data) as made:
        assert made.testzip() is None
        assert {name: made.read(name) for name in made.namelist()} == FILES
        methods = {info.filename: info.compress_type for info in made.infolist()}
        years = {info.date_time[0] for info in made.infolist()}
    packed = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    assert methods["a.txt"] == packed
    assert methods["folder/deep/er/b.bin"] == methods["empty"] == zipfile.ZIP_STORED
    assert years == {2014}


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "stored"])
def test_our_own_strict_check_takes_it(tab: Page, tmp_path: Path, deflate: bool) -> None:
    path = tmp_path / "made.zip"
    path.write_bytes(zipped(tab, FILES, deflate))
    archive.check(path)
    archive.unpack(path, tmp_path / "out")
    for name, content in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == content
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o644


def test_thousands_of_files(tab: Page, tmp_path: Path) -> None:
    files = {f"d{n % 50}/f{n}": f"{n}\n".encode() for n in range(1500)}
    path = tmp_path / "made.zip"
    path.write_bytes(zipped(tab, files))
    archive.check(path)
    with zipfile.ZipFile(path) as made:
        assert {name: made.read(name) for name in made.namelist()} == files


def test_a_file_that_changed_is_named(tab: Page) -> None:
    said = tab.evaluate(
        """async () => {
          const { zip } = await import("/static/zipping.js");
          const file = new File(["abc"], "a");
          Object.defineProperty(file, "size", { value: 2 });
          return zip([{ path: "folder/a", file }]).catch((error) => error.message);
        }"""
    )
    assert "folder/a" in said and "changed" in said


def summed(data: bytes) -> list[int]:
    """What LOOK says of contents: their length and CRC."""
    return [len(data), zlib.crc32(data)]


def look(tab: Page, data: bytes, most: int = 1 << 20) -> Any:
    return tab.evaluate(LOOK, [encoded(data), most])


def written(make: Callable[[zipfile.ZipFile], None], **options: Any) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as made:
        make(made)
    return data.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_browser_reads_zips_of_others(tab: Page, method: int) -> None:
    def make(made: zipfile.ZipFile) -> None:
        made.mkdir("folder")
        for name, data in FILES.items():
            made.writestr(name, data)
        made.comment = b"PK\x05\x06 in a comment"

    found = {entry["name"]: entry for entry in look(tab, written(make, compression=method))}
    assert found.pop("folder/")["folder"] is True
    contents = {name: entry["content"] for name, entry in found.items()}
    assert contents == {name: summed(data) for name, data in FILES.items()}
    assert {name: entry["size"] for name, entry in found.items()} == {
        name: len(data) for name, data in FILES.items()
    }


def test_only_the_beginning_is_unpacked_where_that_is_enough(tab: Page) -> None:
    data = written(lambda made: made.writestr("a", b"x" * 10_000_000), compression=8)
    assert look(tab, data, 64)[0]["content"] == summed(b"x" * 64)


def test_64_bit_records_are_read(tab: Page) -> None:
    def make(made: zipfile.ZipFile) -> None:
        with made.open("large", "w", force_zip64=True) as file:
            file.write(b"content")

    data = bytearray(written(make))
    central = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    # The sizes and the place of the directory moved to where zips above 4 GiB have them.
    extra = b"\x01\x00\x10\x00" + (7).to_bytes(8, "little") * 2
    head = bytearray(data[central:end])
    head[20:28] = b"\xff" * 8
    head[30:32] = len(extra).to_bytes(2, "little")
    head += extra
    wide = b"PK\x06\x06" + (44).to_bytes(8, "little") + b"\x2d\x00\x2d\x00" + bytes(8)
    for value in (1, 1, len(head), central):
        wide += value.to_bytes(8, "little")
    locator = b"PK\x06\x07" + bytes(4) + (central + len(head)).to_bytes(8, "little") + b"\1\0\0\0"
    last = b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)
    made = bytes(data[:central] + head + wide + locator + last)
    archive.check(io.BytesIO(made))
    assert look(tab, made) == [
        {"name": "large", "size": 7, "folder": False, "fault": "", "content": summed(b"content")}
    ]


def test_names_in_code_page_437_are_read(tab: Page) -> None:
    data = written(lambda made: made.writestr("Straxe.txt", b"1"))
    assert look(tab, data.replace(b"Straxe", b"Stra\xe1e"))[0]["name"] == "Stra\u00dfe.txt"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\x1f\x8b\x08" + bytes(50), "a gzip file"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z file"),
        (b"Rar!\x1a\x07" + bytes(50), "a RAR file"),
        (bytes(257) + b"ustar\x0000" + bytes(300), "a tar file"),
        (b"  <!DOCTYPE html><p>Sign in", "a web page"),
        (b"anything", "This is no zip file."),
        (b"PK\x03\x04" + bytes(100), "cut off or damaged"),
        (written(lambda made: made.writestr("a", "1" * 1000))[:-30], "cut off or damaged"),
        (b"PK" + written(lambda made: made.writestr("a", "1")), "cut off or damaged"),
    ],
)
def test_what_is_no_good_zip_is_said(tab: Page, data: bytes, said: str) -> None:
    assert said in look(tab, data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.replace(b"name", b"na\\e"), "backslash"),
        (lambda d: d.replace(b"name", b"/ame"), "leads out"),
        (lambda d: d.replace(b"name", b"../e"), "leads out"),
        (lambda d: d[: d.index(b"PK\1\2") + 8] + b"\1" + d[d.index(b"PK\1\2") + 9 :], "encrypted"),
        (
            lambda d: d[: d.index(b"PK\1\2") + 10] + b"\t" + d[d.index(b"PK\1\2") + 11 :],
            "Deflate64",
        ),
    ],
    ids=["backslash", "absolute", "dots", "encrypted", "deflate64"],
)
def test_entries_that_will_be_refused_are_said(
    tab: Page, change: Callable[[bytes], bytes], said: str
) -> None:
    data = change(written(lambda made: made.writestr("name", "1")))
    assert said in look(tab, data)[0]["fault"]
    with pytest.raises(BadZip):
        archive.check(io.BytesIO(data))
