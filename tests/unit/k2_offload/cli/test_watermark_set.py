"""Times as ``k2 watermark set`` takes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from k2_offload.cli.main import app
from k2_offload.cli.options import parse_time_argument
from k2_offload.core.windows import format_time

times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(times)
def test_what_the_commands_print_can_be_given_back(time):
    assert parse_time_argument(format_time(time)) == time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01 12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00.000001Z", datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text, time):
    assert parse_time_argument(text) == time


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "", "2026-03", "20260301", "1772366400", "2026-13-01", "2026-03-01T12"),
        *("2026-03-01T12:00:00.0000001Z", "2026-03-01T12:00:00 CET", "0001-01-01T00:00+02:00"),
    ],
)
def test_what_is_no_time_or_finer_than_a_microsecond_is_bad_input(text):
    with pytest.raises(typer.BadParameter, match="ISO 8601"):
        parse_time_argument(text)


def test_bad_input_exits_with_2_before_anything_is_asked():
    result = CliRunner().invoke(app, ["watermark", "set", "silver_trades", "yesterday"])
    assert result.exit_code == 2
    assert "'yesterday' is no time in ISO 8601" in result.output
    assert "Traceback" not in result.output
