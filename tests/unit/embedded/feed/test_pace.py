from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from embedded.feed.messages import Message
from embedded.feed.pace import BATCH_TRADES, FLUSH_MICROS, in_batches


class Clock:
    """Time passes only while somebody waits."""

    def __init__(self, now_micros: int, stop_micros: int | None = None) -> None:
        self.now_micros = now_micros
        self._stop_micros = stop_micros

    def wait_until(self, micros: int) -> bool:
        if self._stop_micros is not None and micros >= self._stop_micros:
            return False
        self.now_micros = max(self.now_micros, micros)
        return True


def message(sent_micros: int, trade_count: int = 1) -> Message:
    return Message("binance", "", trade_count, sent_micros)


streams = st.lists(st.tuples(st.integers(0, 2 * FLUSH_MICROS), st.integers(1, BATCH_TRADES // 2))).map(
    lambda steps: [
        message(sent_micros, trade_count)
        for sent_micros, trade_count in zip(
            accumulate(gap for gap, _ in steps), (count for _, count in steps), strict=True
        )
    ]
)


@given(streams, st.integers(0, 10 * FLUSH_MICROS))
def test_every_message_is_handed_over_once_in_order_and_never_early(stream: list[Message], now_micros: int) -> None:
    clock = Clock(now_micros)
    handed_over = []
    for batch in in_batches(stream, lambda: clock.now_micros, clock.wait_until):
        assert batch[-1].sent_micros <= clock.now_micros
        assert sum(each.trade_count for each in batch[:-1]) < BATCH_TRADES
        handed_over += batch
    assert handed_over == stream


@given(streams)
def test_in_real_time_nothing_waits_longer_than_the_flush_time(stream: list[Message]) -> None:
    clock = Clock(0)
    for batch in in_batches(stream, lambda: clock.now_micros, clock.wait_until):
        assert all(clock.now_micros - each.sent_micros < FLUSH_MICROS for each in batch)


@given(st.lists(st.integers(0, 4 * FLUSH_MICROS)))
def test_after_an_insert_that_took_long_nothing_waits_longer_than_it_took(took: list[int]) -> None:
    stream = [message(sent_micros=number * FLUSH_MICROS // 5) for number in range(200)]
    clock, inserts, insert_micros = Clock(0), iter(took), 0
    for batch in in_batches(stream, lambda: clock.now_micros, clock.wait_until):
        assert all(clock.now_micros - each.sent_micros < max(FLUSH_MICROS, insert_micros) for each in batch)
        insert_micros = next(inserts, 0)
        clock.now_micros += insert_micros


def test_a_backlog_goes_in_full_batches() -> None:
    stream = [message(sent_micros=second * 1_000_000) for second in range(2 * BATCH_TRADES + 1)]
    clock = Clock(now_micros=stream[-1].sent_micros + FLUSH_MICROS)
    sizes = [len(batch) for batch in in_batches(stream, lambda: clock.now_micros, clock.wait_until)]
    assert sizes == [BATCH_TRADES, BATCH_TRADES, 1]


def test_a_stop_ends_the_stream_at_once() -> None:
    stream = (message(sent_micros=second * 1_000_000) for second in range(1_000_000_000))
    clock = Clock(0, stop_micros=3_000_000)
    batches = list(in_batches(stream, lambda: clock.now_micros, clock.wait_until))
    assert [[each.sent_micros for each in batch] for batch in batches] == [[0], [1_000_000], [2_000_000]]
