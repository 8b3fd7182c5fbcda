"""The month's comparison tells what it has to tell: a soak whose comparison is blind would find nothing."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from tests.soak.truth import compare_candles, compare_trades

WHERE = "table", "day"


def told(found):
    return found.dropped, found.left_behind, found.lost, found.doubled, found.not_cold


@pytest.mark.parametrize(
    ("inserted", "warm", "cold", "expected"),
    [
        pytest.param("ab", "ab", "ab", (0, 0, 0, 0, 0), id="in both tiers"),
        pytest.param("ab", "ab", "a", (0, 0, 0, 0, 1), id="late, to be healed"),
        pytest.param("ab", "", "ab", (2, 0, 0, 0, 0), id="dropped"),
        pytest.param("abc", "c", "ab", (2, 1, 0, 0, 0), id="late after the drop"),
        pytest.param("ab", "", "a", (2, 0, 1, 0, 0), id="lost"),
        pytest.param("aa", "", "a", (2, 0, 1, 0, 0), id="one of two that are alike is lost"),
        pytest.param("ab", "", "abb", (2, 0, 0, 1, 0), id="doubled in the cold tier"),
        pytest.param("ab", "abb", "ab", (0, 0, 0, 1, 0), id="doubled in ClickHouse"),
        pytest.param("ab", "b", "ab", (1, 1, 0, 1, 0), id="half of a day is back"),
        pytest.param("a", "a", "az", (0, 0, 0, 1, 0), id="nobody has inserted it"),
    ],
)
def test_what_became_of_trades(inserted, warm, cold, expected):
    assert told(compare_trades(WHERE, Counter(inserted), Counter(warm), Counter(cold))) == expected


def candle(first, high, low, last, trades):
    amounts = Decimal(trades) * 10**14 + Decimal(trades).scaleb(-18)  # 33 digits
    return 1, 2, "kraken", "BTC/EUR", first, high, low, last, amounts, amounts, trades


DROPPED, LATE, ALL = candle(1, 5, 1, 2, 10), candle(3, 6, 1, 3, 1), candle(1, 6, 1, 3, 11)


@pytest.mark.parametrize(
    ("inserted", "warm", "cold", "expected"),
    [
        pytest.param(ALL, [ALL], [ALL], (0, 0, 0, 0, 0), id="in both tiers"),
        pytest.param(ALL, [ALL], [DROPPED], (0, 0, 0, 0, 1), id="to be healed"),
        pytest.param(ALL, [], [ALL], (1, 0, 0, 0, 0), id="dropped"),
        pytest.param(ALL, [LATE], [DROPPED], (0, 1, 0, 0, 0), id="a late trade after the drop"),
        pytest.param(ALL, [], [], (0, 0, 1, 0, 0), id="lost"),
        pytest.param(ALL, [], [DROPPED], (0, 0, 1, 0, 0), id="a trade is lost"),
        pytest.param(ALL, [LATE], [ALL], (0, 0, 0, 1, 0), id="a trade counts twice"),
        pytest.param(ALL, [], [ALL, ALL], (0, 0, 0, 1, 0), id="doubled"),
        pytest.param(ALL, [], [candle(1, 5, 1, 3, 11)], (0, 0, 0, 1, 0), id="another value"),
    ],
)
def test_what_became_of_a_candle(inserted, warm, cold, expected):
    assert told(compare_candles(WHERE, Counter([inserted]), Counter(warm), Counter(cold))) == expected
