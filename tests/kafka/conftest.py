"""A broker, and a gateway whose queues read from it, for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.support import KafkaServer
from tests.stack.embedded.gateway.conftest import own_gateway

__all__ = ["own_gateway"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path_factory.mktemp("broker"))
    server.start()
    yield server
    server.stop()
