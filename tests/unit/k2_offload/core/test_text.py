"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.text import first_line, show_days, show_duration, show_number, show_window, without_secrets

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_thousands_are_separated_and_the_unknown_is_a_dash():
    assert [show_number(value) for value in (None, 0, 999, 3_777_490)] == ["\N{EN DASH}", "0", "999", "3,777,490"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-7, "0 s"),
        (-90_000, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3600, "1 h 00 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, text):
    assert show_duration(timedelta(seconds=seconds)) == text


def test_a_window_names_the_day_of_its_end_only_if_it_is_another():
    assert show_window(NOON, NOON + timedelta(minutes=15)) == "2026-11-21 12:00:00 to 12:15:00"
    assert show_window(NOON, NOON + timedelta(days=1)) == "2026-11-21 12:00:00 to 2026-11-22 12:00:00"
    assert show_window(None, NOON) == "\N{EN DASH}"


def test_days_are_named_once_if_they_are_one():
    assert [show_days([NOON.date()]), show_days((NOON.date(), NOON.date()))] == ["2026-11-21"] * 2
    assert show_days([NOON.date() + timedelta(days=number) for number in range(3)]) == "2026-11-21 to 2026-11-23"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("https://me:p@ss@catalog.internal:8181/v1", "https://…@catalog.internal:8181/v1"),
        ("exceeded with url: /?token=abc/v1/config?warehouse=lake (Caused by", "exceeded with url: /?… (Caused by"),
        ("Invalid URL 'catalog?sig=abc': no scheme", "Invalid URL 'catalog?…': no scheme"),
        ("s3://lake/cold/t/metadata/1.json is missing", "s3://lake/cold/t/metadata/1.json is missing"),
        ("Is it there? Look: a@b.internal", "Is it there? Look: a@b.internal"),
    ],
)
def test_what_may_be_a_secret_in_an_url_is_not_shown(words, shown):
    assert without_secrets(words) == shown


def test_an_exception_is_told_in_one_line():
    assert first_line(KeyError("at")) == "KeyError: 'at'"
    assert first_line(RuntimeError()) == "RuntimeError"
    assert first_line(OSError("https://a:b@c\nnext")) == "OSError: https://…@c"
