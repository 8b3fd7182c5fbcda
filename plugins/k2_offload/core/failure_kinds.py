"""Which of a few kinds a failure is that the ledger has in words: for a metric's label, which must be bounded."""

from __future__ import annotations

_PHRASES = {
    "unreachable": ("is not reachable through Airflow connection", "does not reach the lake's object store"),
    "login": (
        "refuses Airflow connection",
        "object store refuses ClickHouse",
        "does not accept the certificate",
        "writes somewhere else than",
    ),
    "overloaded": ("could not do a query now",),
    "busy": ("has held this table in the ledger",),
    "replica": ("Rows that it lacks would pass",),
    "unreadable": ("its cold table cannot be read",),
    "expired": ("may have expired in ClickHouse",),
    "unpublished": ("planned and not published",),
    "unexpected": ("for an unexpected reason",),
    "changed": ("its windows were cut on", "the cold table is partitioned by"),
    "damaged": ("k2 watermark rebuild", "k2 adopt"),
    "source": ("`k2 validate`",),
}
"""By what the messages of :mod:`k2_offload.core.errors` and their raisers say; the first kind that fits counts."""

OTHER = "other"

FAILURE_KINDS = (*_PHRASES, OTHER)
"""``changed``: the table file was edited; ``damaged``: a person has to decide about the cold table; ``source``: the
source does not fit; ``replica``: the server that was asked has not all rows yet; ``unpublished``: the log of the job
says why."""


def failure_kind(reason: str) -> str:
    """One of :data:`FAILURE_KINDS`."""
    return next((kind for kind, phrases in _PHRASES.items() if any(phrase in reason for phrase in phrases)), OTHER)
