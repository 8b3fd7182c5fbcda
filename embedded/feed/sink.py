"""The way into ClickHouse: inserts raw messages and counts what has arrived."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from clickhouse_driver import Client, errors

from embedded.feed.messages import Message

_ARRIVALS = (Path(__file__).parent / "arrivals.sql").read_text(encoding="utf-8")

# The driver logs each failed attempt to connect; SinkFailed says it once.
logging.getLogger("clickhouse_driver").addHandler(logging.NullHandler())


class SinkFailed(Exception):
    """ClickHouse cannot be reached or refused a statement. The message is meant for a person."""


@dataclass(frozen=True)
class Target:
    """Where ClickHouse listens (native protocol), and as whom to log in."""

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"ClickHouse at {self.host}:{self.port}, database {self.database}"


class Sink:
    """One connection; a context manager that closes it. After a failure it is closed already.

    :ivar trade_count: trades handed over in inserts that have succeeded
    """

    def __init__(self, target: Target) -> None:
        """:raises SinkFailed: ClickHouse does not answer"""
        self._target = target
        self._client = Client(
            target.host,
            target.port,
            target.database,
            target.user,
            target.password,
            connect_timeout=5,
            client_name="k2 feed",
        )
        self.trade_count = 0
        with self._failures_named():
            [(self._since_micros,)] = self._client.execute("SELECT toUnixTimestamp64Micro(now64(6))")

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()

    def insert(self, batch: Sequence[Message]) -> None:
        """Insert messages; the order within each exchange is kept.

        :raises SinkFailed: some of the batch may have arrived
        """
        for exchange, messages in groupby(sorted(batch, key=attrgetter("exchange")), attrgetter("exchange")):
            together = list(messages)
            with self._failures_named():
                self._client.execute(
                    f"INSERT INTO bronze_trades_{exchange}_queue (message) VALUES",
                    [[message.text for message in together]],
                    columnar=True,
                )
            self.trade_count += sum(message.trade_count for message in together)

    def count_arrivals(
        self, exchanges: Sequence[str], symbols: Sequence[str], first_micros: int, last_micros: int
    ) -> tuple[int, int]:
        """Bronze rows of these symbols and times, and rejected rows of these exchanges, since this connection began.

        What another feed of the same sends meanwhile is counted too.

        :param first_micros: the earliest trade's time, in microseconds since 1970-01-01 UTC
        :param last_micros: the latest trade's (inclusive)
        :raises SinkFailed: everything inserted before stays
        """
        parameters = {
            "exchanges": tuple(exchanges),
            "symbols": tuple(symbols),
            "first_micros": first_micros,
            "last_micros": last_micros,
            "since_micros": self._since_micros,
        }
        with self._failures_named():
            [(bronze_rows, rejected_rows)] = self._client.execute(_ARRIVALS, parameters)
        return bronze_rows, rejected_rows

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except errors.ServerException as error:
            self._client.disconnect()
            reason = str(error.message).partition(" Stack trace:")[0].strip()
            raise SinkFailed(f"{self._target} refused: {reason} {self._what_is_safe()}") from error
        except (errors.Error, EOFError, OSError) as error:
            self._client.disconnect()
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise SinkFailed(
                f"{self._target} is not reachable: {reason}. {self._what_is_safe()} "
                "Start it with `make up`, or name another with --host and --port."
            ) from error

    def _what_is_safe(self) -> str:
        if not self.trade_count:
            return "No insert had succeeded before."
        return f"{self.trade_count:,} trades had been inserted before; of those under way some may have arrived."
