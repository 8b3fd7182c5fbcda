from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, localcontext

import pytest
from clickhouse_driver import Client

from tests.stack.embedded.feed.support import binance_message, insert, kraken_message, now_millis, select

SYMBOLS = "SELECT symbol, base_asset, quote_asset FROM silver_trades ORDER BY sequence_number, trade_id"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("BTCUSDT", ("BTC/USDT", "BTC", "USDT")),
        ("BTCTUSD", ("BTC/TUSD", "BTC", "TUSD")),
        ("BTCFDUSD", ("BTC/FDUSD", "BTC", "FDUSD")),
        ("BTTUSDT", ("BTT/USDT", "BTT", "USDT")),
        ("USDCUSDT", ("USDC/USDT", "USDC", "USDT")),
        ("ETHBTC", ("ETH/BTC", "ETH", "BTC")),
        ("XRPETH", ("XRP/ETH", "XRP", "ETH")),
        ("1INCHBNB", ("1INCH/BNB", "1INCH", "BNB")),
        ("币安人生USDT", ("币安人生/USDT", "币安人生", "USDT")),
        ("XBTUSDT", ("XBT/USDT", "XBT", "USDT")),
        ("ABCXYZ", ("ABCXYZ", "", "")),
        ("USDT", ("USDT", "", "")),
    ],
)
def test_binance_symbols(clickhouse: Client, written: str, canonical: tuple[str, str, str]) -> None:
    insert(clickhouse, "binance", [binance_message(s=written)])
    assert select(clickhouse, SYMBOLS) == [canonical]
    assert select(clickhouse, "SELECT symbol FROM bronze_trades_binance") == [(written,)]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("XBT/USD", ("BTC/USD", "BTC", "USD")),
        ("ETH/XBT", ("ETH/BTC", "ETH", "BTC")),
        ("XDG/XBT", ("DOGE/BTC", "DOGE", "BTC")),
        ("BCH/EUR", ("BCH/EUR", "BCH", "EUR")),
        ("XBTUSD", ("XBTUSD", "", "")),
        ("A/B/C", ("A/B/C", "", "")),
    ],
)
def test_kraken_symbols(clickhouse: Client, written: str, canonical: tuple[str, str, str]) -> None:
    insert(clickhouse, "kraken", [kraken_message(["1", "1", f"{now_millis() // 1000}", "b"], pair=written)])
    assert select(clickhouse, SYMBOLS) == [canonical]
    assert select(clickhouse, "SELECT symbol FROM bronze_trades_kraken") == [(written,)]


def test_both_exchanges_meet_under_one_symbol(clickhouse: Client) -> None:
    seconds = now_millis() // 1000
    insert(clickhouse, "binance", [binance_message(s="ETHBTC", T=seconds * 1000 + 1)])
    insert(clickhouse, "kraken", [kraken_message(["1", "1", f"{seconds}.000002", "b"], pair="ETH/XBT")])
    rows = select(
        clickhouse,
        "SELECT exchange, toUnixTimestamp64Micro(exchange_timestamp) FROM silver_trades WHERE symbol = 'ETH/BTC' "
        "ORDER BY exchange",
    )
    assert rows == [("binance", seconds * 1_000_000 + 1000), ("kraken", seconds * 1_000_000 + 2)]


@pytest.mark.parametrize(
    ("price", "quantity"),
    [
        ("0.00141342", "23"),
        ("64210.01000000", "0.00004000"),
        ("12345678901234567890.123456789012345678", "0.999999999999999999"),
        ("0.000000000000000001", "0.1"),
        ("3.333333333333333333", "0.333333333333333333"),
    ],
)
def test_quote_volume_is_the_exact_product_cut_to_18_decimals(clickhouse: Client, price: str, quantity: str) -> None:
    insert(clickhouse, "binance", [binance_message(p=price, q=quantity)])
    with localcontext() as context:
        context.prec = 80
        product = (Decimal(price) * Decimal(quantity)).quantize(Decimal("1e-18"), rounding=ROUND_DOWN)
    assert select(clickhouse, "SELECT quote_volume FROM silver_trades") == [(product,)]
