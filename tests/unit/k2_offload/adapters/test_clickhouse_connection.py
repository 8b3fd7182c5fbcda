"""What ClickHouse's refusals mean, and which of its servers is asked; its answers are tested on the real engine."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from dataclasses import replace

import clickhouse_driver
import pytest
from clickhouse_driver.errors import ServerException

from k2_offload.adapters.clickhouse_connection import ClickHouseConnection
from k2_offload.core.errors import (
    ConfigurationError,
    OffloadError,
    Overloaded,
    Refused,
    StoreFailed,
    StoreNotTrusted,
    StoreRefused,
    Unreachable,
)
from tests.unit.k2_offload.adapters.driver import ENDPOINT, Client


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (159, Overloaded, "code 159"),
        (202, Overloaded, "too much. Nothing was moved and no row is lost: the next run tries again"),
        (241, Overloaded, "make max_window_rows smaller"),
        (279, Overloaded, "code 279"),
        (369, Overloaded, "code 369"),
        (516, Refused, "refuses Airflow connection 'clickhouse'"),
        (60, OffloadError, r"refused a query \(code 60\)"),
    ],
)
def test_what_may_pass_is_told_from_what_a_person_has_to_cure(answering, code, kind, words):
    with pytest.raises(kind, match=words) as raised:
        answering(ServerException("too much. Stack trace: 0", code)).execute("SELECT 1")
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("words", "kind", "tried_again"),
    [
        ("DB::Exception: Access Denied. (S3_ERROR)", StoreRefused, False),
        ("Message: The specified bucket does not exist, NoSuchBucket. (S3_ERROR)", StoreRefused, False),
        ("SSL Exception: error:0A000086:SSL routines::certificate verify failed", StoreNotTrusted, False),
        ("Certificate validation error: Unacceptable certificate from h", StoreNotTrusted, False),
        ("Message: Poco::Exception. Code: 1000, e.code() = 111, Connection refused", StoreFailed, True),
    ],
)
def test_an_object_store_that_fails_an_export_reads_like_every_other_error(answering, words, kind, tried_again):
    with pytest.raises(kind, match=r"none is lost.*lake_collection.*k2 validate") as raised:
        answering(ServerException(words, 499)).execute("INSERT INTO FUNCTION s3(k2_lake)")
    assert isinstance(raised.value, Unreachable) is tried_again
    assert isinstance(raised.value, ConfigurationError) is not tried_again
    assert words.rstrip(".") in str(raised.value)


def test_servers_share_the_time_that_one_has(monkeypatch):
    asked = []
    monkeypatch.setattr(clickhouse_driver, "Client", lambda **options: asked.append(options) or Client([(0,)]))
    for others in ((), (("b", 1),), tuple(("b", port) for port in range(9))):
        ClickHouseConnection(replace(ENDPOINT, alternatives=others)).execute("SELECT 1")
    assert [each["connect_timeout"] for each in asked] == [10, 5, 2]
    assert [each["alt_hosts"] for each in asked[:2]] == [None, "b:1"]


def hear_and_hang_up(listening):
    with listening.accept()[0] as client:
        client.recv(4096)


def test_who_hangs_up_before_a_greeting_is_away_and_the_next_is_asked():
    with ExitStack() as resources:
        listening = [resources.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [each.getsockname()[1] for each in listening]
        asked = [threading.Thread(target=hear_and_hang_up, args=(each,), daemon=True) for each in listening]
        for each in asked:
            each.start()
        alternatives = (("127.0.0.1", ports[1]),)
        clickhouse = ClickHouseConnection(
            replace(ENDPOINT, host="127.0.0.1", native_port=ports[0], alternatives=alternatives)
        )
        with pytest.raises(Unreachable, match=f"servers are 127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}"):
            clickhouse.execute("SELECT 1")
        for each in asked:
            each.join(5)
            assert not each.is_alive(), "each server was asked"
        clickhouse.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_no_server_that_is_down(tmp_path, content):
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"'ca_certs' names .*authorities\.pem, which is no file"):
        ClickHouseConnection(replace(ENDPOINT, secure=True, ca_certs=str(file))).execute("SELECT 1")
