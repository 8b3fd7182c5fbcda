"""A week of trades from two exchanges that stall, burst and fall silent, delivered by a clock of its own."""

from __future__ import annotations

from collections import Counter, deque
from datetime import timedelta

from embedded.feed.market import generate
from embedded.feed.sink import Sink
from k2_offload.core.windows import to_micros

EXCHANGES = ("binance", "kraken")
LONGEST_STALL = timedelta(minutes=20)
LATEST_ARRIVAL = timedelta(hours=4)
_LATE_SHARE = 0.002
_STALLS_PER_INTERVAL = 0.04
_ACTIVITIES = (0.05, 0.3, 0.6, 1.0)


class Market:
    """What the exchanges send, and when it arrives.

    :param random: decides on stalls and activity
    :param rate: trades per second when busy
    :param latest: how late a trade may come
    """

    def __init__(self, sink: Sink, random, start, rate, latest=LATEST_ARRIVAL):
        self._sink = sink
        self._random = random
        self._messages = generate(random.randrange(2**32), rate, to_micros(start))
        self._next = next(self._messages)
        self._held = {exchange: deque() for exchange in EXCHANGES}
        self._stalls = dict.fromkeys(EXCHANGES, (start, start))
        self._late, self._latest = [], latest
        self.stalls = Counter()
        self.late = 0

    @property
    def trades(self):
        return self._sink.trade_count

    def deliver_until(self, start, end, activity=None):
        """Everything that arrives in ``[start, end)``. A feed that stalls delivers its backlog when it is back.

        :param activity: which share of the trades there is; at random when left out, and then some come late
        """
        late_share = _LATE_SHARE if activity is None else 0
        for exchange in EXCHANGES:
            if self._stalls[exchange][1] <= start and self._random.random() < _STALLS_PER_INTERVAL:
                begin = start + (end - start) * self._random.random()
                self._stalls[exchange] = (begin, begin + LONGEST_STALL * self._random.uniform(0.2, 1))
                self.stalls[exchange] += 1
        activity = activity or self._random.choice(_ACTIVITIES)
        while self._next.sent_micros < to_micros(end):
            if self._random.random() < activity:
                if self._random.random() < late_share:
                    self._late.append((end + self._latest * self._random.uniform(0.15, 1), self._next))
                else:
                    self._held[self._next.exchange].append(self._next)
            self._next = next(self._messages)
        self._sink.insert([message for exchange in EXCHANGES for message in self._arrived(exchange, end)])
        self.deliver_late(end)

    def deliver_late(self, end=None):
        """What comes late, and has come by now; all of it when left out."""
        arrived = [message for time, message in self._late if end is None or time <= end]
        self._late = [(time, message) for time, message in self._late if end is not None and time > end]
        self.late += len(arrived)
        self._sink.insert(arrived)

    def _arrived(self, exchange, end):
        held = self._held[exchange]
        begin, back = self._stalls[exchange]
        while held and (back <= end or held[0].sent_micros < to_micros(begin)):
            yield held.popleft()
