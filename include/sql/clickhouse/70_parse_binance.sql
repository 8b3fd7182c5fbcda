-- Binance trade messages, bare or inside the envelope of a combined stream:
--   {"e":"trade","E":…,"s":"BTCUSDT","t":123,"p":"0.00141342","q":"23.00","T":<milliseconds>,"m":true}
--   {"stream":"btcusdt@trade","data":{…}}
--
-- Fields are taken as raw JSON, quotes included: a price that came as a JSON number has been through a float, is
-- recognised by its missing quotes, and is rejected rather than kept inexactly.
-- The parsers come last of all: nothing flows before everything it flows into stands.

CREATE MATERIALIZED VIEW IF NOT EXISTS parse_binance_mv TO parsed_trades AS
WITH
    '^"([0-9]{1,20}(?:\\.[0-9]{1,18})?)"$' AS decimal_text,
    JSONExtractKeysAndValuesRaw(message)::Map(String, String) AS envelope,
    if(
        mapContains(envelope, 'data'),
        JSONExtractKeysAndValuesRaw(envelope['data'])::Map(String, String),
        envelope
    ) AS trade
SELECT
    fromUnixTimestamp64Micro(toInt64OrZero(extract(trade['T'], '^[0-9]{1,14}$')) * 1000, 'UTC') AS exchange_timestamp,
    toUInt64OrZero(trade['t']) AS sequence_number,
    'binance' AS exchange,
    JSONExtractString(trade['s']) AS symbol,
    toDecimal128OrZero(extract(trade['p'], decimal_text), 18) AS price,
    toDecimal128OrZero(extract(trade['q'], decimal_text), 18) AS quantity,
    -- m says whether the buyer was the maker; then the taker sold.
    transform(trade['m'], ['true', 'false'], ['sell', 'buy'], '') AS side,
    trade['t'] AS trade_id,
    now64(6, 'UTC') AS ingested_at,
    message AS raw_message,
    multiIf(
        empty(trade), 'not a JSON object',
        trade['e'] != '"trade"', 'not a trade event',
        toString(toUInt64OrZero(trade['t'])) != trade['t'], 'trade id is not a whole number',
        ''
    ) AS parse_error
FROM bronze_trades_binance_queue;
