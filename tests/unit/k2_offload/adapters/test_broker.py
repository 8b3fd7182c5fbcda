"""What the broker's client says, as errors of ours."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from k2_offload.adapters.broker import Broker, open_broker
from k2_offload.core.errors import ConfigurationError, Refused, Unreachable
from k2_offload.core.offsets import OffsetRange, Partition

UNKNOWN_TOPIC, AUTHENTICATION = -188, -169
"""librdkafka's own codes."""


def broker_that_says(monkeypatch, error=None, raised=None, settings=None, messages=(), seek=None, own=()):
    def list_topics(topic, **_):
        if raised is not None:
            raise KafkaException(raised)
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions={})})

    def make(given):
        if settings is not None:
            settings.update(given)
        return consumer

    broker = Broker({"bootstrap.servers": "127.0.0.1:1", **dict(own)})
    left = iter(messages)
    consumer = SimpleNamespace(
        list_topics=list_topics, close=lambda: None, assign=lambda _: None, poll=lambda _: next(left), seek=seek
    )
    kafka = SimpleNamespace(
        Consumer=make, KafkaException=KafkaException, KafkaError=KafkaError, TopicPartition=lambda *of: of
    )
    monkeypatch.setattr(broker, "_kafka", kafka)
    return broker


def message(offset, at=0):
    return SimpleNamespace(error=lambda: None, offset=lambda: offset, value=lambda: b"", timestamp=lambda: (1, at))


TLS = {
    "security.protocol": "SASL_SSL",
    "ssl.ca.location": "/ca.pem",
    "enable.ssl.certificate.verification": "false",
    "enable.sasl.oauthbearer.unsecure.jwt": "true",
}


def test_both_clients_of_the_broker_get_the_settings_of_tls(monkeypatch):
    given, of_admin = {}, {}

    def admin(settings):
        of_admin.update(settings)
        config = SimpleNamespace(result=lambda: {"cleanup.policy": SimpleNamespace(value="delete")})
        return SimpleNamespace(describe_configs=lambda asked, **_: dict.fromkeys(asked, config))

    monkeypatch.setattr("confluent_kafka.admin.AdminClient", admin)
    broker_that_says(monkeypatch, settings=given, own=TLS).partitions("t")
    assert TLS.items() <= given.items()
    assert TLS.items() <= of_admin.items()
    assert given.keys() - of_admin.keys() == {"enable.auto.commit", "enable.partition.eof"}


@pytest.mark.parametrize(
    ("connection", "servers"),
    [
        ({"host": "b", "port": 9092}, "b:9092"),
        ({"host": "b1:1,b2:2", "extra": {"bootstrap.servers": "other:1"}}, "b1:1,b2:2"),
        ({"extra": {"bootstrap.servers": "b1:1,b2:2", "ssl.ca.location": "/ca.pem"}}, "b1:1,b2:2"),
        ({"extra": {"bootstrap.servers": "b:1"}, "port": 9092}, "b:1"),
    ],
)
def test_servers_may_be_in_the_host_or_where_airflow_s_kafka_provider_has_them(monkeypatch, connection, servers):
    settings = {}
    monkeypatch.setenv("AIRFLOW_CONN_K2_BROKER", json.dumps({"conn_type": "kafka"} | connection))
    monkeypatch.setattr(Broker, "__init__", lambda _, given: settings.update(given))
    open_broker()
    assert settings == connection.get("extra", {}) | {"bootstrap.servers": servers}


def test_a_connection_without_servers_says_so(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_K2_BROKER", json.dumps({"conn_type": "kafka", "login": "me", "password": "geheim"})
    )
    with pytest.raises(ConfigurationError, match=r"'k2_broker' has neither a host nor .*`k2 verify --offsets`") as told:
        open_broker()
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_TOPIC_OR_PART, UNKNOWN_TOPIC])
def test_only_a_topic_that_the_broker_does_not_know_holds_nothing(monkeypatch, code):
    assert broker_that_says(monkeypatch, KafkaError(code)).partitions("t") == {}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Refused),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, Refused),
        (KafkaError.SASL_AUTHENTICATION_FAILED, Refused),
        (AUTHENTICATION, Refused),
        (KafkaError.LEADER_NOT_AVAILABLE, Unreachable),
    ],
)
@pytest.mark.parametrize("how", ["error", "raised"])
def test_any_other_error_is_raised(monkeypatch, code, kind, how):
    with pytest.raises(kind, match=r"k2_broker.*then run `k2 verify --offsets`\.$"):
        broker_that_says(monkeypatch, **{how: KafkaError(code)}).partitions("t")


def test_a_range_below_the_logs_start_is_read_from_there(monkeypatch):
    settings = {}
    broker_that_says(monkeypatch, KafkaError(UNKNOWN_TOPIC), settings=settings).partitions("t")
    assert settings["auto.offset.reset"] == "earliest"


def test_a_time_that_no_clock_shows_is_a_time_all_the_same(monkeypatch):
    """None at all, and microseconds where milliseconds are meant."""
    sent = [1_772_625_600_000, -1, 1_772_625_600_000_000]
    messages = [message(offset, at) for offset, at in enumerate(sent)]
    found, _ = broker_that_says(monkeypatch, messages=messages).messages(Partition("t", 0), [OffsetRange(0, 2)])
    assert found[0] == datetime(2026, 3, 4, 12, tzinfo=UTC)
    assert found[1] < found[0] < found[2]


def test_what_lies_near_is_read_through_and_what_lies_far_is_looked_up(monkeypatch):
    """4, 6 and 90001 are the ends of transactions."""
    wanted = [OffsetRange(2, 2), OffsetRange(4, 4), OffsetRange(6, 8), OffsetRange(90_000, 90_001)]
    messages = map(message, [2, 3, 5, 7, 8, 9, 90_000, 90_002])
    sought = []
    broker = broker_that_says(monkeypatch, messages=messages, seek=sought.append)
    found, complete = broker.messages(Partition("t", 0), wanted)
    assert (list(found), complete) == ([2, 7, 8, 90_000], True)
    assert sought == [("t", 0, 90_000)]


def test_when_it_is_too_late_what_was_read_is_said(monkeypatch):
    messages = iter([message(0), message(1)])
    now = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    broker = broker_that_says(monkeypatch, messages=messages)
    found, complete = broker.messages(Partition("t", 0), [OffsetRange(0, 10)], until=3)
    assert (list(found), complete) == ([0], False)
