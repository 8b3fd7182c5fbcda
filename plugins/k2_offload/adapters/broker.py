"""The Kafka broker, asked what it holds: through the optional Airflow connection ``k2_broker``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from k2_offload.core.errors import ConfigurationError, OffloadError, Refused, Unreachable
from k2_offload.core.offsets import BrokerPartition, OffsetRange, Partition

BROKER_CONNECTION = "k2_broker"
_SECONDS = 30
_READ_THROUGH = 5000
"""Offsets between two ranges that are read: looking up a place takes the broker as long."""
_OF_CONSUMERS = ("enable.auto.commit", "enable.partition.eof")
"""Settings that an admin client has no use for. All others are for both: some that begin alike are those of TLS."""
_AGAIN = "k2 verify --offsets"
_UNKNOWN = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")


def open_broker() -> Broker | None:
    """The broker that the connection names; ``None`` if there is no such connection.

    In a task also if Airflow's API server does not answer at the moment: Airflow does not tell the two apart.

    :raises ConfigurationError: if the connection names no server, or the client library is missing
    """
    from airflow.sdk import BaseHook  # noqa: PLC0415
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415

    try:
        found = BaseHook.get_connection(BROKER_CONNECTION)
    except AirflowNotFoundException:
        return None
    settings = dict(found.extra_dejson)  # Airflow's Kafka provider has all of it there
    if found.host:
        settings["bootstrap.servers"] = f"{found.host}:{found.port}" if found.port else found.host
    if not settings.get("bootstrap.servers"):
        raise ConfigurationError(
            f"connection '{BROKER_CONNECTION}' has neither a host nor 'bootstrap.servers' in its extra. Nothing was "
            f"compared. Give it one of them; then run `{_AGAIN}`."
        )
    if found.login:
        settings |= {"sasl.username": found.login, "sasl.password": found.password}
    return Broker(settings)


class Broker:
    """Reads topics and leaves no trace in the broker: it joins no group and commits no offset.

    :param settings: librdkafka's
    :raises ConfigurationError: if the client library is missing
    :raises Unreachable: by every method, if the broker does not answer
    :raises Refused: by every method, if it does not let the user do that
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            import confluent_kafka  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                f"Airflow connection '{BROKER_CONNECTION}' exists, and the package confluent-kafka does not. Nothing "
                "was compared. Install it beside Airflow (the extra `broker` of this package), or delete the "
                "connection to compare without the broker."
            ) from None
        self._kafka = confluent_kafka
        self._settings = {
            **settings,
            "group.id": "k2_verify",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "error_cb": lambda _: None,
            "log_level": 0,
        }

    def partitions(self, topic: str) -> dict[Partition, BrokerPartition]:
        """What the broker holds of a topic; nothing if it knows none of that name."""
        from confluent_kafka import admin  # noqa: PLC0415

        try:
            with closing(self._kafka.Consumer(self._settings)) as consumer:
                known = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
                resource: Any = admin.__dict__["ConfigResource"]("TOPIC", topic)
                if known.error is not None:
                    if known.error.name() in _UNKNOWN:
                        return {}
                    raise _failure(known.error)
                client = admin.AdminClient(  # kept until it has answered
                    {key: value for key, value in self._settings.items() if key not in _OF_CONSUMERS}
                )
                [config] = client.describe_configs([resource], request_timeout=_SECONDS).values()
                compacted = "compact" in config.result()["cleanup.policy"].value
                found = {}
                for number in known.partitions:
                    at = self._kafka.TopicPartition(topic, number)
                    first, end = consumer.get_watermark_offsets(at, timeout=_SECONDS)
                    found[Partition(topic, number)] = BrokerPartition(first, end, compacted)
                return found
        except self._kafka.KafkaException as error:
            raise _failure(error.args[0]) from error

    def messages(
        self, partition: Partition, wanted: Sequence[OffsetRange], until: float | None = None
    ) -> tuple[dict[int, datetime], bool]:
        """The broker's time of each message in some ranges; an offset without a message, or without a value, has none.

        That is the producer's time, unless the topic has ``message.timestamp.type=LogAppendTime``.

        :param wanted: in their order, one at least; no two overlap
        :param until: of the clock ``time.monotonic``; ``None`` takes the time that it takes
        :returns: with whether all were read; if not, it was too late, and these are the messages that were read by then
        """
        found: dict[int, datetime] = {}
        place, heard = 0, time.monotonic()
        try:
            with closing(self._kafka.Consumer(self._settings)) as consumer:
                consumer.assign([self._kafka.TopicPartition(partition.topic, partition.number, wanted[0].first)])
                while until is None or time.monotonic() < until:
                    message = consumer.poll(1)
                    if message is None:
                        if time.monotonic() > heard + _SECONDS:
                            raise Unreachable("The broker", BROKER_CONNECTION, f"no answer for {partition}", _AGAIN)
                        continue
                    heard = time.monotonic()
                    error = message.error()
                    if error is not None:
                        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
                            return found, True
                        raise _failure(error)
                    offset = message.offset()
                    if offset is None or offset > wanted[-1].last:
                        return found, True
                    while wanted[place].last < offset:
                        place += 1
                    if offset >= wanted[place].first and message.value() is not None:
                        found[offset] = _time(message.timestamp()[1])
                    if offset == wanted[-1].last:
                        return found, True
                    if wanted[place].first - offset > _READ_THROUGH:
                        consumer.seek(
                            self._kafka.TopicPartition(partition.topic, partition.number, wanted[place].first)
                        )
        except self._kafka.KafkaException as error:
            raise _failure(error.args[0]) from error
        return found, False


def _time(millis: int) -> datetime:
    """A producer may give any number, such as microseconds; -1 stands for none."""
    try:
        return datetime.fromtimestamp(millis / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _failure(error: Any) -> OffloadError:
    """What to raise for an error of the client library."""
    refused = "AUTHORIZATION" in error.name() or "AUTHENTICATION" in error.name()
    return (Refused if refused else Unreachable)("The broker", BROKER_CONNECTION, str(error), _AGAIN)
