-- What the parsers made of the messages: trades, and what is to be rejected, with the reason.
--
-- Engine Null: this is a junction, not a store. Each exchange's parsing stands once although its result goes two ways:
-- rows with an empty reject_reason to bronze, all others to rejected_messages. The checks that hold for every exchange
-- stand here, once. A parser leaves a column at its default (an empty text, zero) where the message has nothing usable.

CREATE TABLE IF NOT EXISTS parsed_trades
(
    exchange_timestamp DateTime64(6, 'UTC'),
    sequence_number UInt64,
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    price Decimal(38, 18),
    quantity Decimal(38, 18),
    side LowCardinality(String),
    trade_id String,
    ingested_at DateTime64(6, 'UTC'),
    raw_message String,
    parse_error LowCardinality(String),
    reject_reason LowCardinality(String) DEFAULT multiIf(
        parse_error != '', parse_error,
        symbol = '', 'no symbol',
        -- Also finds times in another unit than the exchange's.
        exchange_timestamp < toDateTime64('2000-01-01', 6, 'UTC')
        OR exchange_timestamp >= toDateTime64('2100-01-01', 6, 'UTC'),
        'trade time is missing, finer than a microsecond, or outside [2000, 2100)',
        price <= 0, 'price is not a positive decimal text that Decimal(38, 18) holds exactly',
        quantity <= 0, 'quantity is not a positive decimal text that Decimal(38, 18) holds exactly',
        toDecimal256(price, 18) * quantity >= toDecimal256('100000000000000000000', 0),
        'price times quantity overflows Decimal(38, 18)',
        side = '', 'side is neither buy nor sell',
        ''
    )
)
ENGINE = Null;
