"""How far behind a replica may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import ReplicaBehind
from k2_offload.core.failure_kinds import failure_kind
from k2_offload.core.replicas import Replica, longest_delay_seconds, refuse_behind

TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]


@pytest.mark.parametrize(
    ("buffer_seconds", "cut_off", "delay_seconds", "words"),
    [
        (300, False, 301, "is 301 s behind, and 300 s are the most"),
        (0, False, 61, "is 61 s behind, and 60 s are the most"),
        (300, True, 0, "is read-only: it has no session with Keeper"),
        (300, False, 1_790_000_000, "has not read the log of what was inserted since the server started"),
    ],
)
def test_a_replica_that_cannot_have_all_rows_is_refused(buffer_seconds, cut_off, delay_seconds, words):
    limit_seconds = longest_delay_seconds(replace(TABLE, buffer_seconds=buffer_seconds))
    behind = Replica("k2.stored", cut_off, delay_seconds)
    with pytest.raises(ReplicaBehind) as raised:
        refuse_behind("t", limit_seconds, "ch1", [Replica("k2.other", cut_off=False, delay_seconds=0), behind])
    assert f"t: on server ch1, the replica of k2.stored {words}" in str(raised.value)
    assert "no row is lost" in str(raised.value)
    assert failure_kind(str(raised.value)) == "replica"


@pytest.mark.parametrize(("buffer_seconds", "delay_seconds"), [(300, 300), (0, 60)])
def test_a_replica_may_lag_for_less_than_the_buffer(buffer_seconds, delay_seconds):
    limit_seconds = longest_delay_seconds(replace(TABLE, buffer_seconds=buffer_seconds))
    refuse_behind("t", limit_seconds, "ch1", [Replica("k2.t", cut_off=False, delay_seconds=delay_seconds)])
    refuse_behind("t", limit_seconds, "ch1", [])
