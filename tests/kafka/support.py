"""A real Apache Kafka of a test's own, and a client that produces."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedded.install.layout import ROOT
from embedded.stack.schema import SCHEMA_DIRECTORY, apply_schema
from tests.stack.embedded.gateway.conftest import Gateway
from tests.support import free_ports

DOCKER = ROOT / "docker" / "clickhouse"
TOPICS = {"binance": "k2.trades.binance", "kraken": "k2.trades.kraken"}

AHEAD_SECONDS = 120
"""Messages say that they are younger than the table of offsets, as they are everywhere but in a test."""

JARS = ROOT / ".state" / "broker"


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Kafka gives a consumer's partitions to its successor only after 45 s if it went without a word."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


@dataclass
class KafkaServer:
    """One process, broker and controller in one (KRaft)."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    def _java(self, *arguments: str) -> list[str]:
        options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]
        return ["java", *options, *arguments]

    def start(self) -> None:
        if not JARS.is_dir():
            pytest.fail("there is no broker: run `make test-kafka`", pytrace=False)
        properties = self.folder / "server.properties"
        if not properties.exists():
            client, controller = (f"127.0.0.1:{port}" for port in self.ports)
            settings = {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": f"1@{controller}",
                "listeners": f"PLAINTEXT://{client},CONTROLLER://{controller}",
                "advertised.listeners": f"PLAINTEXT://{client}",
                "controller.listener.names": "CONTROLLER",
                "log.dirs": f"{self.folder}/log",
                "offsets.topic.replication.factor": "1",
                "offsets.topic.num.partitions": "1",
                "transaction.state.log.replication.factor": "1",
                "transaction.state.log.min.isr": "1",
                "group.initial.rebalance.delay.ms": "0",
                "auto.create.topics.enable": "false",
            }
            properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            make = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(properties)]
            subprocess.run(self._java(*make), check=True, capture_output=True, timeout=60)
        with (self.folder / "broker.out").open("ab") as log:
            self.process = subprocess.Popen(self._java("kafka.Kafka", str(properties)), stdout=log, stderr=log)
        wait_until(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self.ports[0])) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None

    def create(self, topic: str, partitions: int = 2) -> None:
        admin = AdminClient({"bootstrap.servers": self.address})
        [made] = admin.create_topics([NewTopic(topic, partitions, 1)]).values()
        made.result(timeout=30)

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """What retention does."""
        admin = AdminClient({"bootstrap.servers": self.address})
        [done] = admin.delete_records([TopicPartition(topic, partition, offset)]).values()
        done.result(timeout=30)

    def seek(self, group: str, topic: str, offset: int, partitions: int = 2) -> bool:
        """Set the group to ``offset``; False as long as it has a member."""
        admin = AdminClient({"bootstrap.servers": self.address})
        positions = [TopicPartition(topic, number, offset) for number in range(partitions)]
        [done] = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, positions)]).values()
        try:
            result = done.result(timeout=30)
        except KafkaException:
            return False
        return not any(each.error for each in result.topic_partitions)

    def send(self, topic: str, messages: Sequence[str], partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.address})
        for number, message in enumerate(messages):
            chosen = number % 2 if partition is None else partition
            producer.produce(
                topic, message.encode(), partition=chosen, timestamp=int(1000 * (time.time() + AHEAD_SECONDS))
            )
        assert producer.flush(30) == 0


def connect_queues(gateway: Gateway, broker: KafkaServer, folder: Path) -> Client:
    """The platform's schema in the running ``gateway``, with queues that read ``broker``; ``folder`` is for scripts."""
    for topic in TOPICS.values():
        broker.create(topic)
    shutil.copytree(SCHEMA_DIRECTORY, folder, dirs_exist_ok=True)
    for script in DOCKER.glob("*.sql"):
        shutil.copy(script, folder)
    queues = folder / "10_message_queues.sql"
    named, written = "Kafka(k2_broker)\nSETTINGS", f"Kafka SETTINGS kafka_broker_list = '{broker.address}',"
    assert named in queues.read_text()
    queues.write_text(queues.read_text().replace(named, written))
    gateway.query("CREATE DATABASE k2")
    client = gateway.client(database="k2")
    apply_schema(client, folder)
    # A queue that reads already goes on for some seconds with the views that it began with.
    for exchange in TOPICS:
        with detached(client, exchange):
            pass
    return client


def kill_and_start(gateway: Gateway, folder: Path) -> Client:
    """Kill the engine as it reads, and start it again, with the queues made anew.

    chDB does not start with a table of Kafka's in it, for the reason that its CREATE reports an error; ClickHouse does.
    """
    gateway.stop(signal.SIGKILL)
    gateway.disconnect()
    for exchange in TOPICS:
        (gateway.data_path / "metadata" / "k2" / f"bronze_trades_{exchange}_queue.sql").unlink()
    gateway.start()
    client = gateway.client(database="k2")
    apply_schema(client, folder)
    return client


@contextmanager
def detached(client: Client, exchange: str) -> Iterator[None]:
    queue = f"bronze_trades_{exchange}_queue"
    client.execute(f"DETACH TABLE {queue}")
    yield
    with suppress(ServerException):  # chDB 26.9 reports an error, as for CREATE, and has attached it
        client.execute(f"ATTACH TABLE {queue}")
    assert client.execute(f"EXISTS {queue}") == [(1,)]


def count(client: Client, table: str) -> int:
    [(rows,)] = client.execute(f"SELECT count() FROM {table}")
    return int(rows)
