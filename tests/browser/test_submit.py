"""The page for a new job in a real browser, from the file in somebody's hand to the job."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import browsing
from tests.browsing import HOSTILE, zipped
from tests.submitting import (
    GOOD,
    came,
    content,
    drop,
    drop_from_disk,
    names,
    submitted,
)
from tests.system import System, wait_for

# --- ways in -------------------------------------------------------------------------------


def test_a_zip_is_dropped_and_runs(form: Page, river: System, tmp_path: Path) -> None:
    path = zipped(tmp_path / "Rain of 1997.zip", GOOD)
    form.get_by_label("rain").check()
    drop_from_disk(form, path)
    expect(form.locator("#check")).to_contain_text("It has what the model needs")
    expect(form.locator("#check")).to_contain_text("rain.csv is there")
    expect(form.locator("#job_name")).to_have_value("Rain of 1997")
    form.get_by_role("button", name="Submit").click()
    job = submitted(form, river)
    assert (job["name"], job["model"], job["status"]) == ("Rain of 1997", "rain", "COMPLETE")
    assert came(river, job) == "catchment/area.txt 6\nrain.csv 14\n"


def test_a_folder_is_dropped_zipped_here_and_runs(
    form: Page, river: System, tmp_path: Path
) -> None:
    folder = tmp_path / "my catchment"
    (folder / "catchment").mkdir(parents=True)
    for name, text in GOOD.items():
        (folder / name).write_text(text)
    (folder / ".DS_Store").write_text("litter")
    (folder / "Thumbs.db").write_text("litter")
    form.get_by_label("rain").check()
    drop_from_disk(form, folder)
    check = form.locator("#check")
    expect(check).to_contain_text("It has what the model needs")
    expect(check).to_contain_text("What is in the folder “my catchment” is sent")
    expect(check).to_contain_text("“my catchment/.DS_Store”, “my catchment/Thumbs.db”")
    form.get_by_role("button", name="Submit").click()
    job = submitted(form, river)
    assert (job["name"], job["status"]) == ("my catchment", "COMPLETE")
    assert came(river, job) == "catchment/area.txt 6\nrain.csv 14\n"


def test_a_folder_is_picked_with_the_keyboard(form: Page, river: System, tmp_path: Path) -> None:
    (tmp_path / "data" / "catchment").mkdir(parents=True)
    for name, text in GOOD.items():
        (tmp_path / "data" / name).write_text(text)
    form.get_by_label("rain").check()
    form.get_by_label("Choose a folder").focus()
    with form.expect_file_chooser() as chooser:
        form.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "data")
    expect(form.locator("#check")).to_contain_text("It has what the model needs")
    form.locator("#job_name").fill("picked")
    form.keyboard.press("Enter")  # in a field: the form's own button, not another
    job = submitted(form, river)
    assert job["name"] == "picked"
    assert came(river, job) == "catchment/area.txt 6\nrain.csv 14\n"


def test_the_folder_itself_is_kept_where_the_model_wants_it(form: Page, tmp_path: Path) -> None:
    (tmp_path / "catchment").mkdir()
    (tmp_path / "catchment" / "area.txt").write_text("7")
    (tmp_path / "rain.csv").write_text(GOOD["rain.csv"])
    form.get_by_label("rain").check()
    drop_from_disk(form, tmp_path / "catchment")
    lines = form.locator("#check li")
    expect(lines.filter(has_text="catchment/area.txt")).to_contain_text("is there")
    drop_from_disk(form, tmp_path / "catchment", tmp_path / "rain.csv")
    expect(form.locator("#check")).to_contain_text("It has what the model needs")


def test_loose_files_are_dropped(form: Page, river: System) -> None:
    form.get_by_label("any").check()
    drop(form, ("b.txt", b"bb"), ("a\u00e4.txt", b"a"))
    expect(form.locator("#check")).to_contain_text("It can be read")
    expect(form.locator("#picked")).to_contain_text("2 files, 3 B")
    form.get_by_role("button", name="Submit").click()
    job = submitted(form, river)
    assert came(river, job) == "a\u00e4.txt 1\nb.txt 2\n"


def test_loose_files_add_up_and_a_zip_is_an_input_by_itself(form: Page, tmp_path: Path) -> None:
    form.get_by_label("any").check()
    picked = form.locator("#picked")
    drop(form, ("a.txt", b"a"))
    expect(picked).to_contain_text("a.txt")
    drop(form, ("b.txt", b"bb"))
    expect(picked).to_contain_text("2 files, 3 B")
    expect(form.locator("#check")).to_contain_text("Added to the files that were chosen before")
    drop(form, ("b.txt", b"b"))  # the newer one of a name
    expect(picked).to_contain_text("2 files, 2 B")
    drop(form, ("in.zip", content(tmp_path, GOOD)))
    expect(form.locator("#picked-name")).to_have_text("in.zip")
    drop(form, ("c.txt", b"c"))
    expect(form.locator("#picked-name")).to_have_text("c.txt")
    form.get_by_role("button", name="Remove").click()
    drop(form, ("d.txt", b"d"))
    expect(form.locator("#picked-name")).to_have_text("d.txt")


def test_what_is_picked_last_is_what_counts(form: Page, river: System, tmp_path: Path) -> None:
    """Also where what was picked before takes longer to read."""
    folder = tmp_path / "slow folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    form.evaluate(
        """() => {
          const { webkitGetAsEntry } = DataTransferItem.prototype;
          DataTransferItem.prototype.webkitGetAsEntry = function () {
            const entry = webkitGetAsEntry.call(this);
            if (!entry?.isDirectory) return entry;
            const reader = entry.createReader();
            window.walked = 0;
            const readEntries = (done, failed) => setTimeout(() => reader.readEntries((some) => {
              done(some);
              window.walked++;
            }, failed), 300);
            return { isDirectory: true, createReader: () => ({ readEntries }) };
          };
        }"""
    )
    form.get_by_label("any").check()
    drop_from_disk(form, folder)
    drop(form, ("picked last.zip", content(tmp_path, {"new.txt": "new"})))
    # the second answer is the empty one
    wait_for(lambda: form.evaluate("window.walked === 2"), "the walk through the folder")
    form.get_by_role("button", name="Submit").click()
    job = submitted(form, river)
    assert job["name"] == "picked last" and came(river, job) == "new.txt 3\n"


def test_a_model_that_is_changed_after_the_press_counts(
    form: Page, river: System, tmp_path: Path
) -> None:
    form.evaluate(
        """() => {
          const { arrayBuffer } = Blob.prototype;
          Blob.prototype.arrayBuffer = async function () {
            await new Promise((done) => setTimeout(done, 200));
            return arrayBuffer.call(this);
          };
        }"""
    )
    form.get_by_label("any").check()
    drop(form, ("late choice.zip", content(tmp_path, GOOD)))
    form.get_by_role("button", name="Submit").click()
    form.get_by_label("rain").check()
    job = submitted(form, river)
    assert job["name"] == "late choice" and job["model"] == "rain"


def test_a_single_file_that_is_no_zip_is_zipped(form: Page, river: System) -> None:
    form.get_by_label("any").check()
    drop(form, ("problem.lp", b"min: x;"))
    expect(form.locator("#job_name")).to_have_value("problem")
    form.get_by_role("button", name="Submit").click()
    assert came(river, submitted(form, river)) == "problem.lp 7\n"


def test_what_is_dropped_beside_the_zone_is_taken_too(form: Page) -> None:
    dragging = re.compile("dragging")
    drop(form, ("x.bin", b"1"), on="h1", kinds=("dragenter", "dragover"))
    expect(form.locator("body")).to_have_class(dragging)  # shows where to drop
    drop(form, ("x.bin", b"1"), on="h1", kinds=("drop",))
    expect(form.locator("#picked-name")).to_have_text("x.bin")
    expect(form.locator("body")).not_to_have_class(dragging)


# --- the first look ------------------------------------------------------------------------


def refused_before_upload(page: Page, river: System, text: str) -> None:
    """The first press says why and sends nothing."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    expect(page.locator("#check")).to_contain_text("This will be refused")
    expect(page.locator("#check")).to_contain_text(text)
    before = names(river)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#check")).to_contain_text("Nothing was sent.")
    expect(page.get_by_role("button", name="Send it anyway")).to_be_visible()
    assert "POST" not in sent and names(river) == before


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("cut.zip", None, "cut off or damaged"),
        ("really.zip", b"\x1f\x8b\x08" + bytes(100), "This is no zip file but a gzip file"),
        ("input.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z file. Unpack it"),
        ("page.zip", b"<!DOCTYPE html><title>Sign in", "a web page"),
        ("empty.zip", b"", "The file is empty"),
    ],
)
def test_a_broken_zip_is_explained_and_nothing_queued(
    form: Page, river: System, tmp_path: Path, name: str, data: bytes | None, text: str
) -> None:
    form.get_by_label("any").check()
    drop(form, (name, data if data is not None else content(tmp_path, GOOD)[:-20]))
    refused_before_upload(form, river, text)
    before = names(river)
    form.get_by_role("button", name="Send it anyway").click()
    expect(form.locator("#check")).to_contain_text("The server refused it")
    assert names(river) == before
    expect(form.get_by_role("button", name="Submit")).to_be_visible()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"top/" + name: text for name, text in GOOD.items()}, "It lies in the folder “top”"),
        ({"Rain.CSV": "date,rain", "catchment/area.txt": "1"}, "capital letters count"),
        ({"rain.csv.txt": "date,rain", "catchment/area.txt": "1"}, "an ending too many"),
        ({"rain.csv": "date,rain\n", "area.txt": "1"}, "catchment/area.txt is missing"),
        (GOOD | {"RAIN.CSV": "1"}, "differs only in capital letters"),
        ({"rain.zip": "PK"}, "There is only another zip in it, “rain.zip”"),
        ({"Rain 1997.xlsx": "PK", "catchment/area.txt": "1"}, "a spreadsheet: save it as CSV"),
    ],
)
def test_what_is_missing_is_said_before_the_upload(
    form: Page, river: System, tmp_path: Path, files: dict[str, str], text: str
) -> None:
    form.get_by_label("rain").check()
    drop(form, ("in.zip", content(tmp_path, files)))
    refused_before_upload(form, river, text)


def test_doubts_about_contents_do_not_hold_up(form: Page, river: System, tmp_path: Path) -> None:
    files = {"rain.csv": "Date,rain\n", "catchment/area.txt": "12 km2"}
    form.get_by_label("rain").check()
    drop(form, ("in.zip", content(tmp_path, files)))
    check = form.locator("#check")
    expect(check).to_contain_text("Something may be wrong with it")
    expect(check).to_contain_text("“Date”: capital letters and blanks count")
    expect(check).to_contain_text("holds “12 km2”; expected square kilometres")
    before = names(river)
    form.get_by_role("button", name="Submit").click()
    expect(check).to_contain_text("The server refused it")
    rows = check.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("rain.csv")
    expect(form.locator("#job_name")).to_have_value("in")  # nothing is lost in the form
    expect(form.locator("#picked")).to_contain_text("in.zip")
    assert names(river) == before


def test_another_model_is_another_look(form: Page, tmp_path: Path) -> None:
    form.get_by_label("rain").check()
    drop(form, ("in.zip", content(tmp_path, {"other": "1"})))
    expect(form.locator("#check")).to_contain_text("This will be refused")
    form.get_by_label("any").check()
    expect(form.locator("#check")).to_contain_text("It can be read")
    form.reload()
    expect(form.get_by_label("any")).to_be_checked()  # the last one is remembered


def test_what_it_holds_is_listed(form: Page, tmp_path: Path) -> None:
    drop(form, ("in.zip", content(tmp_path, GOOD)))
    form.get_by_text("What it holds: 2 files, 20 B").click()
    expect(form.locator("#contents li")).to_have_text(["rain.csv14 B", "catchment/area.txt6 B"])
    form.get_by_role("button", name="Remove").click()
    expect(form.locator("#contents")).to_be_hidden()
    expect(form.locator("#check")).to_be_empty()


def test_hostile_names_are_text(form: Page, tmp_path: Path) -> None:
    form.get_by_label("rain").check()
    evil = HOSTILE.replace("/", "_")
    drop(form, (evil, b"1"), ("b", b"2"))
    expect(form.locator("#contents")).to_contain_text(evil)
    form.get_by_role("button", name="Remove").click()
    drop(form, (evil, b"1"))
    expect(form.locator("#picked-name")).to_have_text(evil)
    drop(form, (evil + ".zip", content(tmp_path, {evil + "/rain.csv": "date,rain\n"})))
    expect(form.locator("#check")).to_contain_text(evil)
    form.get_by_role("button", name="Submit").click()
    form.get_by_role("button", name="Send it anyway").click()
    expect(form.locator("#check")).to_contain_text("The server refused it")
    expect(form.locator("#job_name")).to_have_value(evil)
    assert form.locator("#check script").count() == 0
    assert "owned" not in form.title()


def test_a_zip_of_the_browser_is_what_python_reads(
    form: Page, river: System, tmp_path: Path
) -> None:
    form.get_by_label("any").check()
    drop(form, ("a.txt", b"a" * 5000), ("b", b""))
    form.get_by_role("button", name="Submit").click()
    job = submitted(form, river)
    river.client.download(job["uuid"], "input.zip", tmp_path / "sent.zip")
    with zipfile.ZipFile(tmp_path / "sent.zip") as sent:
        assert sent.testzip() is None
        assert {name: sent.read(name) for name in sent.namelist()} == {
            "a.txt": b"a" * 5000,
            "b": b"",
        }


# --- without scripts, and how it looks -----------------------------------------------------


def test_without_scripts(chromium: Browser, river: System, tmp_path: Path) -> None:
    with browsing.opened(chromium, river.address, javascript=False, expected=("400",)) as page:
        page.goto("/jobs/submit?model=rain")
        expect(page.get_by_text("Choose a folder")).to_be_hidden()
        page.get_by_label("Name of the job").fill("by hand")
        bad = zipped(tmp_path / "bad.zip", GOOD | {"rain.csv": "1,2"})
        page.get_by_label("Choose a zip file").set_input_files(bad)
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("#check .findings")).to_contain_text("rain.csv")
        expect(page.get_by_label("Name of the job")).to_have_value("by hand")
        assert "by hand" not in names(river)
        page.get_by_label("Choose a zip file").set_input_files(zipped(tmp_path / "a.zip", GOOD))
        page.get_by_label("Name of the job").press("Enter")
        assert submitted(page, river)["name"] == "by hand"


def test_the_example_runs_from_here(form: Page, river: System) -> None:
    form.get_by_label("rain").check()
    form.get_by_role("button", name="Run the example").click()
    job = submitted(form, river)
    assert job["model"] == "rain" and job["status"] == "COMPLETE"
