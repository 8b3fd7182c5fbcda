"""A driver of ClickHouse that connects to nobody."""

from __future__ import annotations

from k2_offload.core.connections import ClickHouseEndpoint

ENDPOINT = ClickHouseEndpoint("clickhouse", "h", 9000, 8123, "u", "p", "k2", secure=False)


class Client:
    """A driver that connects to nobody and answers with rows, or with an error."""

    def __init__(self, answer):
        self._answer = answer
        self.connection = self

    def receive_hello(self):
        pass

    def execute(self, *_):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def disconnect(self):
        pass
