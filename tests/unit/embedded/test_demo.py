"""When the demo's fresh trades begin and end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded import demo
from embedded.demo import DemoFailedError, fresh_trades

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@given(st.lists(st.none() | st.integers(395, 10**6), max_size=9))
def test_fresh_trades_are_no_late_rows_and_lie_before_the_buffer(seconds_ago):
    watermarks = [None if ago is None else NOW - timedelta(seconds=ago) for ago in seconds_ago]
    starting_ago, seconds = fresh_trades(watermarks, NOW)
    assert all(ago is None or starting_ago < ago for ago in seconds_ago)
    assert starting_ago - seconds >= 300
    assert 60 <= seconds <= 600


def test_too_soon_after_the_last_demo_says_how_long_to_wait():
    with pytest.raises(DemoFailedError, match="try again in 95 s"):
        fresh_trades([NOW - timedelta(seconds=300)], NOW)


def test_other_servers_that_a_person_has_entered_get_no_trades(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("K2_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(demo, "up", lambda *_, **__: None)
    monkeypatch.setattr(demo, "show", lambda *_: pytest.fail("the demo went on"))
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "connections.json").write_text("{}")
    assert demo.main() == 1
    assert "was changed by hand" in capsys.readouterr().out.replace("\n", " ")
