-- Silver: the trades of all exchanges in one schema, symbols as BASE/QUOTE, each trade once.
--
-- bronze -> canonical_trades -> new_trades -> candles, then silver_trades. The tables between are of engine Null:
-- junctions, not stores.
--
-- The views split the exchange's symbol. One that cannot be split keeps its name and has an empty base and quote:
-- `WHERE base_asset = ''` finds it, and no trade is lost because an exchange lists something new.

CREATE TABLE IF NOT EXISTS silver_trades
(
    exchange_timestamp DateTime64(6, 'UTC'),
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    base_asset LowCardinality(String),
    quote_asset LowCardinality(String),
    price Decimal(38, 18),
    quantity Decimal(38, 18),
    -- A DEFAULT, so that it stands once for all views. The exact product has up to 36 decimals and is cut, never
    -- rounded up, to 18; parsed_trades rejects what would overflow.
    quote_volume Decimal(38, 18) DEFAULT toDecimal128(toDecimal256(price, 18) * quantity, 18),
    side LowCardinality(String) COMMENT 'of the taker: buy or sell',
    trade_id String,
    sequence_number UInt64,
    ingested_at DateTime64(6, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toDate(exchange_timestamp)
ORDER BY (symbol, exchange, exchange_timestamp, sequence_number)
TTL toDateTime(exchange_timestamp) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- What comes from bronze, repeated trades among it.
CREATE TABLE IF NOT EXISTS canonical_trades AS silver_trades ENGINE = Null;

-- Binance writes BASEQUOTE without a separator. The lazy base takes as little as it can, which leaves the longest known
-- quote asset that fits: BTCTUSD is BTC/TUSD, not BTCT/USD. Without a list of markets that is as far as a name goes.
CREATE MATERIALIZED VIEW IF NOT EXISTS silver_trades_binance_mv TO canonical_trades AS
WITH extractGroups(
    toString(trades.symbol),
    '^(.+?)('
    || 'USDT|USDC|FDUSD|TUSD|BUSD|RLUSD|XUSD|USDP|USDE|USD1|USD|DAI|PAX|UST|VAI|'
    || 'AEUR|EURI|EUR|BIDR|IDRT|IDR|BKRW|BVND|ARS|AUD|BRL|COP|CZK|GBP|JPY|MXN|NGN|PLN|RON|RUB|TRY|UAH|ZAR|'
    || 'BTC|ETH|BNB|SOL|XRP|TRX|DOGE|DOT'
    || ')$'
) AS assets
SELECT
    exchange_timestamp,
    exchange,
    if(empty(assets), toString(trades.symbol), assets[1] || '/' || assets[2]) AS symbol,
    assets[1] AS base_asset,
    assets[2] AS quote_asset,
    price,
    quantity,
    side,
    trade_id,
    sequence_number,
    ingested_at
FROM bronze_trades_binance AS trades;

-- Kraken writes BASE/QUOTE, with names of its own for two assets.
CREATE MATERIALIZED VIEW IF NOT EXISTS silver_trades_kraken_mv TO canonical_trades AS
WITH arrayMap(
    asset -> transform(asset, ['XBT', 'XDG'], ['BTC', 'DOGE'], asset),
    extractGroups(toString(trades.symbol), '^([^/]+)/([^/]+)$')
) AS assets
SELECT
    exchange_timestamp,
    exchange,
    if(empty(assets), toString(trades.symbol), assets[1] || '/' || assets[2]) AS symbol,
    assets[1] AS base_asset,
    assets[2] AS quote_asset,
    price,
    quantity,
    side,
    trade_id,
    sequence_number,
    ingested_at
FROM bronze_trades_kraken AS trades;
