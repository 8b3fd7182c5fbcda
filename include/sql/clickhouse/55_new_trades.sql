-- A trade is taken once. A broker delivers at least once, and candles are sums that nobody can take a trade out of again:
-- so what silver has already goes no further. It is told by exchange, symbol and trade id; time, price, quantity and side
-- have to be the same, too, so nothing is left out that silver does not have. Silver is sorted by symbol, exchange and time:
-- a block reads those few granules that may hold its trades.
-- (Inside a materialized view, canonical_trades is the block that is being inserted, in the subquery, too.)
--
-- What silver has is asked once for a block, before candles and silver take it; and candles take it first. If the block
-- breaks off between the two, it comes again, and candles count its trades once for each attempt: too much, and
-- `k2 verify --offsets` names the messages. The other way round they would never get them. Views of one table run in no fixed order, but one
-- that is a junction further away runs later: that is what summed_trades is for.

CREATE TABLE IF NOT EXISTS new_trades AS silver_trades ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS new_trades_mv TO new_trades AS
SELECT *
FROM canonical_trades
WHERE (symbol, exchange, exchange_timestamp, trade_id, price, quantity, side) NOT IN
(
    SELECT symbol, exchange, exchange_timestamp, trade_id, price, quantity, side
    FROM silver_trades
    WHERE (symbol, exchange, exchange_timestamp) IN (SELECT symbol, exchange, exchange_timestamp FROM canonical_trades)
)
LIMIT 1 BY symbol, exchange, exchange_timestamp, trade_id, price, quantity, side;

CREATE TABLE IF NOT EXISTS summed_trades AS silver_trades ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS summed_trades_mv TO summed_trades AS SELECT * FROM new_trades;

CREATE MATERIALIZED VIEW IF NOT EXISTS silver_trades_mv TO silver_trades AS SELECT * FROM summed_trades;
