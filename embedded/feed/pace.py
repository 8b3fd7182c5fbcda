"""When to hand messages over: batches that keep up with the clock, and fill up when there is a backlog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from embedded.feed.messages import Message

FLUSH_MICROS = 500_000
"""A message waits at most so long for others to share its batch."""

BATCH_TRADES = 50_000
"""A batch holds about so many trades at most."""


def in_batches(
    messages: Iterable[Message], now_micros: Callable[[], int], wait_until: Callable[[int], bool]
) -> Iterator[list[Message]]:
    """Batches of ``messages``, in order, none before its last message's sending time has come.

    Messages whose time is past are handed over in full batches, as fast as they are taken.

    :param now_micros: the clock, in microseconds since 1970-01-01 UTC
    :param wait_until: returns at the given time with True, or earlier with False to end the stream; the messages that
        have not been handed over by then are dropped
    """
    batch: list[Message] = []
    trade_count = 0
    for message in messages:
        if batch:
            flush_micros = batch[0].sent_micros + FLUSH_MICROS
            is_due = message.sent_micros >= flush_micros and message.sent_micros > now_micros()
            if is_due or trade_count >= BATCH_TRADES:
                if not wait_until(batch[-1].sent_micros):
                    return
                yield batch
                batch, trade_count = [], 0
        batch.append(message)
        trade_count += message.trade_count
    if batch and wait_until(batch[-1].sent_micros):
        yield batch
