-- Kraken trade messages (v1), each with one trade or several:
--   [channelID,[["5541.20000","0.15850568","1534614057.321597","s","l",""],…],"trade","XBT/USD"]
--   every inner array: price, volume, time in seconds with up to six decimals, side (b or s), order type, miscellaneous
--
-- One row per trade; a trade that has to be rejected does not take its neighbours along. Texts are checked and
-- converted as in the Binance parser, and so are the times: no float on the way to microseconds.
-- v1 has neither a sequence nor trade ids. sequence_number holds the channel's id: constant, so it orders nothing.
-- trade_id is made of the message's hash and the trade's place in the message: the same message always gives the same
-- ids, and the trades of a message sort in the message's order.

CREATE MATERIALIZED VIEW IF NOT EXISTS parse_kraken_mv TO parsed_trades AS
WITH
    '^"([0-9]{1,20}(?:\\.[0-9]{1,18})?)"$' AS decimal_text,
    '^"([0-9]{1,10}(?:\\.[0-9]{1,6})?)"$' AS seconds_text,
    JSONExtractArrayRaw(message) AS elements,
    if(elements[3] = '"trade"', JSONExtractArrayRaw(elements[2]), []) AS trades,
    JSONExtractArrayRaw(trade) AS fields,
    toInt64(1000000 * toDecimal128OrZero(extract(fields[3], seconds_text), 6)) AS exchange_microseconds
SELECT
    fromUnixTimestamp64Micro(exchange_microseconds, 'UTC') AS exchange_timestamp,
    toUInt64OrZero(elements[1]) AS sequence_number,
    'kraken' AS exchange,
    JSONExtractString(elements[4]) AS symbol,
    toDecimal128OrZero(extract(fields[1], decimal_text), 18) AS price,
    toDecimal128OrZero(extract(fields[2], decimal_text), 18) AS quantity,
    transform(fields[4], ['"b"', '"s"'], ['buy', 'sell'], '') AS side,
    lower(hex(sipHash64(message))) || '-' || leftPad(toString(position), 4, '0') AS trade_id,
    now64(6, 'UTC') AS ingested_at,
    message AS raw_message,
    multiIf(
        NOT isValidJSON(message), 'not JSON',
        elements[3] != '"trade"', 'not a trade message',
        empty(trades), 'no trades in the message',
        toString(toUInt64OrZero(elements[1])) != elements[1], 'channel id is not a whole number',
        ''
    ) AS parse_error
FROM bronze_trades_kraken_queue
LEFT ARRAY JOIN trades AS trade, arrayEnumerate(trades) AS position;
