"""Who puts a password into an address does not find it in an error, a log or the ledger, whoever says the error."""

from __future__ import annotations

import re

import pytest

from k2_offload.adapters.ledger import Ledger
from k2_offload.core.connections import read_clickhouse
from k2_offload.core.errors import NoAirflowDatabase, OffloadError, Refused, Unreachable
from offload_job.java_errors import Thrown, translate
from tests.support.connections import fields


def ledger(words):
    def connect():
        raise OSError(words)

    Ledger(connect, "k2_ledger").check()


def java(kind, words):
    raise translate([Thrown("RuntimeIOException", "Failed"), Thrown(kind, words)], "k2_iceberg")


def of(kind, words):
    raise kind("ClickHouse", "clickhouse", words)


@pytest.mark.parametrize(
    ("tell", "words"),
    [
        (lambda host: read_clickhouse(fields(host=host)), ["clickhouse://offload:geheim@ch1.internal"]),
        (lambda host: read_clickhouse(fields(host=host)), ["offload:geheim@ch1"]),
        (lambda host: read_clickhouse(fields(host=host)), ["ch1,offload:geheim@ch2"]),
        (ledger, ["failed to resolve host 'postgresql://u:geheim@127.0.0.1'"]),
        (java, ["PSQLException", "Unable to parse URL jdbc:postgresql://pg/ice?user=u&password=geheim"]),
        (java, ["RESTException", "Failed to create request URI from base https://u:geheim@cat/v1/config"]),
        (java, ["IllegalArgumentException", "Cannot initialize Catalog: https://u:geheim@cat?token=geheim"]),
        (of, [Unreachable, "Name or service not known (clickhouse://offload:geheim@ch1:9000)"]),
        (
            lambda words: of(lambda _, __, words: NoAirflowDatabase(words), words),
            ["no host 'postgresql://u:geheim@pg'"],
        ),
        (of, [Refused, "no user at clickhouse://offload:geheim@ch1:9000/k2?password=geheim"]),
    ],
)
def test_a_password_in_an_address_is_taken_out(tell, words):
    with pytest.raises(OffloadError) as told:
        tell(*words)
    assert "geheim" not in str(told.value)
    assert re.search("Airflow connection '|connection 'c'|Airflow's database", str(told.value)), "it says which"
