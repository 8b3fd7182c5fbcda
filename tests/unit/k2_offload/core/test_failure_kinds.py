"""The kind of a failure, by the words that are really raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_offload.core import errors
from k2_offload.core.errors import DamagedTable
from k2_offload.core.exactly_once import refuse_to_recreate
from k2_offload.core.failure_kinds import FAILURE_KINDS, OTHER, failure_kind

PLUGINS = Path(errors.__file__).parents[1]
# Words that other modules raise; each must be in one of them.
RAISED = {
    "expired": "may have expired in ClickHouse before they were moved",
    "unpublished": "planned and not published; the log of `offload` says why",
    "unexpected": "it could not be planned, for an unexpected reason",
    "changed": "its windows were cut on",
    "source": "then run `k2 validate`",
}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Unreachable("ClickHouse", "k2_clickhouse", "refused"), "unreachable"),
        (errors.StoreFailed("no answer"), "unreachable"),
        (errors.Refused("ClickHouse", "k2_clickhouse", "wrong password"), "login"),
        (errors.StoreRefused("AccessDenied"), "login"),
        (errors.StoreNotTrusted("certificate verify failed"), "login"),
        (errors.WrittenElsewhere("s3://other"), "login"),
        (errors.Overloaded(241, "memory"), "overloaded"),
        (errors.Busy("k2_ledger"), "busy"),
        (errors.UnreadableTable("t", "k2_iceberg", "gone"), "unreadable"),
    ],
)
def test_an_error_is_of_its_kind(error, kind):
    assert failure_kind(str(error)) == kind


def test_a_table_that_was_dropped_is_damaged():
    with pytest.raises(DamagedTable) as raised:
        refuse_to_recreate("t", "a-uuid")
    assert failure_kind(str(raised.value)) == "damaged"


@pytest.mark.parametrize(("kind", "words"), RAISED.items())
def test_words_that_tell_a_kind_are_raised_somewhere(kind, words):
    sources = (file for file in PLUGINS.rglob("*.py") if file.stem != "failure_kinds")
    assert any(words in file.read_text() for file in sources)
    assert failure_kind(f"t [a, b): {words}") == kind


def test_whatever_else_is_other():
    assert failure_kind("the dog ate it") == OTHER
    assert {*RAISED, OTHER} < set(FAILURE_KINDS)
