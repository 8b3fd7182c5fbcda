"""Trades that come days late, by connections of their own, while others move partitions."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from embedded.feed.market import generate
from embedded.feed.sink import Sink
from k2_offload.core.windows import to_micros
from tests.soak.market import EXCHANGES

_CONNECTIONS = 2


class Stragglers:
    """Inserts a few trades of one day at a time.

    :param target: where ClickHouse listens
    :ivar trades: how many were inserted
    """

    def __init__(self, random, target):
        self._random, self._target = random, target
        self._pool = ThreadPoolExecutor(_CONNECTIONS)
        self._under_way = []
        self.trades = 0

    def send(self, day, source=None, delay_seconds=0.0):
        """Begin to insert one to three orders of a day; nobody waits for them.

        :param source: of which table it has to be a trade; of any when left out
        """
        names = [name for name in EXCHANGES if source is None or source.endswith(name)] or EXCHANGES
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        messages = []
        for _ in range(self._random.choice([1, 1, 3])):
            first = midnight + timedelta(seconds=self._random.choice([3, 86_390, self._random.uniform(3, 86_390)]))
            exchange = self._random.choice(names)
            made = generate(self._random.randrange(2**32), 10, to_micros(first))
            messages.append(next(each for each in made if each.exchange == exchange))
        self._under_way.append(self._pool.submit(self._insert, messages, delay_seconds))

    def _insert(self, messages, delay_seconds):
        time.sleep(delay_seconds)
        with Sink(self._target) as sink:
            sink.insert(messages)
            return sink.trade_count

    def wait(self):
        """Until all that was sent is there."""
        self.trades += sum(each.result() for each in self._under_way)
        self._under_way.clear()

    def close(self):
        self._pool.shutdown()
