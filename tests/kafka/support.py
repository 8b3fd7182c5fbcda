"""A real Apache Kafka of a test's own, and a client that produces."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedded.install.layout import ROOT
from tests.support import free_ports

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

    def send(self, topic: str, messages: Sequence[str], partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.address})
        for number, message in enumerate(messages):
            chosen = number % 2 if partition is None else partition
            producer.produce(
                topic, message.encode(), partition=chosen, timestamp=int(1000 * (time.time() + AHEAD_SECONDS))
            )
        assert producer.flush(30) == 0
