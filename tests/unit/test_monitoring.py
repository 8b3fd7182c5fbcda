"""Metrics, alerts, runbooks and the dashboard speak of the same things, and of what exists."""

from __future__ import annotations

from k2_offload.core.failure_kinds import FAILURE_KINDS
from k2_offload.core.metrics import METRICS
from tests.support.pages import DOCS, table_of

PAGE = (DOCS / "metrics.md").read_text()


def test_every_metric_is_documented_as_it_is() -> None:
    documented = table_of(PAGE, "All metrics")
    assert documented == {
        f"`{metric.name}`": {
            "type": str(metric.kind),
            "labels": ", ".join(f"`{label}`" for label in metric.labels) or "none",
            "meaning": metric.help,
        }
        for metric in METRICS
    }


def test_every_kind_of_failure_is_documented() -> None:
    assert set(table_of(PAGE, "Kinds of failures")) == {f"`{kind}`" for kind in FAILURE_KINDS}
