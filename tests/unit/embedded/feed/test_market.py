from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded.feed.market import INSTRUMENTS, LATEST_MICROS, generate
from embedded.feed.messages import Message

START_MICROS = 1_700_000_000_000_000


def times_micros(message: Message) -> list[int]:
    content = json.loads(message.text)
    if message.exchange == "binance":
        return [content["T"] * 1000]
    return [int(Decimal(entry[2]) * 1_000_000) for entry in content[1]]


def symbol(message: Message) -> str:
    content = json.loads(message.text)
    return content["s"] if message.exchange == "binance" else content[3]


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return list(islice(generate(seed=7, rate=1000, start_micros=START_MICROS), 20_000))


@settings(max_examples=20)
@given(st.integers(), st.floats(0.001, 1e6), st.integers(946_684_800_000_000, 4_000_000_000_000_000))
def test_the_same_arguments_give_the_same_messages(seed: int, rate: float, start_micros: int) -> None:
    once = islice(generate(seed, rate, start_micros), 50)
    again = islice(generate(seed, rate, start_micros), 50)
    assert list(once) == list(again)


def test_another_seed_gives_another_market() -> None:
    assert list(islice(generate(1, 100, START_MICROS), 5)) != list(islice(generate(2, 100, START_MICROS), 5))


def test_messages_are_in_the_order_they_are_sent_and_follow_their_trades_closely(messages: list[Message]) -> None:
    assert messages[0].sent_micros >= START_MICROS
    assert all(earlier.sent_micros <= later.sent_micros for earlier, later in pairwise(messages))
    delays = [message.sent_micros - time for message in messages for time in times_micros(message)]
    assert min(delays) >= 0
    assert 1_500_000 < max(delays) <= LATEST_MICROS


def test_the_rate_is_kept_on_average(messages: list[Message]) -> None:
    trade_count = sum(message.trade_count for message in messages)
    seconds = (messages[-1].sent_micros - START_MICROS) / 1e6
    assert trade_count / seconds == pytest.approx(1000, rel=0.1)


def test_activity_comes_in_bursts(messages: list[Message]) -> None:
    per_tenth = Counter(message.sent_micros // 100_000 for message in messages)
    counts = sorted(per_tenth.values())
    assert counts[-1] > 4 * counts[len(counts) // 2]


def test_both_exchanges_and_every_instrument_take_part(messages: list[Message]) -> None:
    assert {(message.exchange, symbol(message)) for message in messages} == {
        (instrument.exchange, instrument.symbol) for instrument in INSTRUMENTS
    }
    assert len(INSTRUMENTS) == 12


def test_trades_share_times_and_run_backwards_now_and_then(messages: list[Message]) -> None:
    times = [time for message in messages if symbol(message) == "BTCUSDT" for time in times_micros(message)]
    pairs = list(pairwise(times))
    assert sum(earlier == later for earlier, later in pairs) > len(pairs) // 10
    assert len(pairs) // 50 < sum(earlier > later for earlier, later in pairs) < len(pairs) // 2
    assert any(message.trade_count > 2 for message in messages if message.exchange == "kraken")


def test_prices_move_in_whole_ticks_and_are_written_as_the_exchange_writes_them(messages: list[Message]) -> None:
    prices = [json.loads(message.text)["p"] for message in messages if symbol(message) == "BTCUSDT"]
    assert len(set(prices)) > 100
    for price in prices:
        assert len(price.partition(".")[2]) == 8
        assert Decimal(price) % Decimal("0.01") == 0
        assert 55_000 < Decimal(price) < 75_000


def test_binance_trade_ids_are_consecutive_and_go_on_after_a_restart(messages: list[Message]) -> None:
    ids = [json.loads(message.text)["t"] for message in messages if symbol(message) == "ETHUSDT"]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    restarted = generate(7, 1000, messages[-1].sent_micros)
    ids_after = [json.loads(message.text)["t"] for message in islice(restarted, 500) if symbol(message) == "ETHUSDT"]
    assert ids_after[0] > ids[-1]
