"""Names to and from text: what is ours comes back the same, what is not is None."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import names
from spool.errors import BadName
from spool.names import Claim, ReportName, Ticket

JOB = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"
SHA = "ab" * 32
TICKET = Ticket(7, 2, JOB, SHA)

seqs = st.integers(0, 10**20 - 1)
attempts = st.integers(1, 10**9 - 1)
jobs = st.uuids().map(str)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
tickets = st.builds(Ticket, seqs, attempts, jobs, hashes)
claims = st.builds(Claim, tickets, st.text("0123456789abcdef", min_size=16, max_size=16))
reports = st.builds(ReportName, jobs, attempts, st.sampled_from(["started", "processed", "final"]))


@given(tickets)
def test_tickets_come_back_the_same(ticket: Ticket) -> None:
    assert names.parse_ticket(str(ticket)) == ticket


@given(claims)
def test_claims_come_back_the_same_and_are_no_tickets(claim: Claim) -> None:
    assert names.parse_claim(str(claim)) == claim
    assert names.parse_ticket(str(claim)) is None
    assert names.parse_claim(str(claim.ticket)) is None


@given(reports)
def test_reports_come_back_the_same_and_share_their_key_with_logs(report: ReportName) -> None:
    assert names.parse_report(str(report)) == report
    assert names.parse_key(report.key) == (report.job, report.attempt)
    assert names.parse_suffixed(f"{report.key}.log", ".log") == (report.job, report.attempt)
    assert names.split_key(report.key) == (report.job, report.attempt)


@given(tickets, tickets)
def test_names_sort_as_the_queue_does(one: Ticket, other: Ticket) -> None:
    if one.seq != other.seq:
        assert (str(one) < str(other)) == (one.seq < other.seq)


@given(claims)
def test_every_derived_name_fits_a_file_system(claim: Claim) -> None:
    half = f"{claim.instance}-{ReportName(claim.ticket.job, claim.ticket.attempt, 'processed')}"
    for name in (str(claim), f".{claim.ticket}", half):
        assert len(name.encode()) <= 255


@given(st.text() | st.from_regex(r"[0-9]{20}\.[0-9]+-[0-9a-f-]{36}-[0-9a-f]{64}\.zip~?[0-9a-f]*"))
def test_whatever_parses_is_written_the_same_way_again(text: str) -> None:
    """No two names mean one thing: what comes back as text is what was read."""
    for parse in (names.parse_ticket, names.parse_claim, names.parse_report):
        parsed = parse(text)
        assert parsed is None or str(parsed) == text


SAMPLES = [str(TICKET), str(Claim(TICKET, "0" * 16)), str(ReportName(JOB, 2, "final"))]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("before", ["", ".", " ", "\n", "x", "../"])
@pytest.mark.parametrize("after", ["", "\n", " ", ".part", "~", "\x00", "/"])
def test_anything_around_a_name_makes_it_a_strange_one(
    sample: str, before: str, after: str
) -> None:
    if before or after:
        text = f"{before}{sample}{after}"
        assert names.parse_ticket(text) is None
        assert names.parse_claim(text) is None
        assert names.parse_report(text) is None


@pytest.mark.parametrize(
    "text",
    [
        str(TICKET).upper(),
        str(TICKET).replace(".2-", ".0-"),  # attempts count from 1
        str(TICKET).replace(".2-", ".02-"),  # and are written one way
        str(TICKET).replace(".2-", ".-2-"),
        str(TICKET).replace(".2-", ".1234567890-"),
        str(TICKET).replace("7.2", "\u0667.2"),  # a digit, but not ASCII
        str(TICKET)[1:],
        str(TICKET).replace(JOB, JOB[:-1] + "g"),
    ],
)
def test_malformed_tickets_are_not_ours(text: str) -> None:
    assert names.parse_ticket(text) is None


def test_a_reports_number_and_kind_must_agree() -> None:
    assert names.parse_report(f"{JOB}.1.3-final")
    for wrong in ("1-final", "3-started", "2-started", "4-final", "3-finale", "03-final"):
        assert names.parse_report(f"{JOB}.1.{wrong}") is None


def test_split_key_says_what_it_expected() -> None:
    with pytest.raises(BadName, match=re.escape("'nonsense'")):
        names.split_key("nonsense")


@pytest.mark.parametrize("good", ["a", "0", "my-model_2.1", "a" * 64, "a..b"])
def test_plain_names(good: str) -> None:
    assert names.plain(good, "the model") == good
    assert names.is_plain(good)


@pytest.mark.parametrize(
    "bad", ["", ".", "..", ".hidden", "-x", "_x", "A", "a/b", "a b", "a\n", "ä", "a" * 65, "a\x00"]
)
def test_names_that_would_lead_elsewhere_are_refused(bad: str) -> None:
    assert not names.is_plain(bad)
    with pytest.raises(BadName, match="the worker"):
        names.plain(bad, "the worker")


def test_plain_takes_no_character_outside_its_alphabet() -> None:
    allowed = set(string.ascii_lowercase + string.digits + "_.-")
    for c in map(chr, range(0x250)):
        assert names.is_plain("a" + c) == (c in allowed)


def test_a_peer_s_text_is_shown_in_one_line_without_control_characters() -> None:
    assert names.shown("a\tb\nc  d") == "a b c  d"
    assert names.shown("\x1b[2J\x9b\u202e\x00") == "\ufffd[2J\ufffd\ufffd\ufffd"
    assert names.shown("déjà vu") == "déjà vu"
    assert names.shown("x" * 300) == "x" * 254 + "\u2026" and names.shown("x" * 255) == "x" * 255
