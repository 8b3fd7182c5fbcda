"""How ClickHouse's own errors read."""

from __future__ import annotations

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.errors import ConfigurationError, StoreFailed, StoreRefused, Unreachable

ENDPOINT = ClickHouseEndpoint("k2_clickhouse", "clickhouse.invalid", 9000, 8123, "u", "", "k2", False)


@pytest.mark.parametrize(
    ("words", "kind", "tried_again"),
    [
        ("DB::Exception: Access Denied. (S3_ERROR)", StoreRefused, False),
        ("Message: The specified bucket does not exist, NoSuchBucket. (S3_ERROR)", StoreRefused, False),
        ("Message: Poco::Exception. Code: 1000, e.code() = 111, Connection refused", StoreFailed, True),
    ],
)
def test_an_object_store_that_fails_an_export_reads_like_every_other_error(monkeypatch, words, kind, tried_again):
    def fail(*_):
        raise ServerException(words, 499)

    monkeypatch.setattr(Client, "execute", fail)
    with pytest.raises(kind, match=r"none is lost.*lake_collection.*k2 validate") as raised:
        ClickHouse(ENDPOINT).execute("INSERT INTO FUNCTION s3(k2_lake)")
    assert isinstance(raised.value, Unreachable) is tried_again
    assert isinstance(raised.value, ConfigurationError) is not tried_again
    assert words.rstrip(".") in str(raised.value)
