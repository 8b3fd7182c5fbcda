"""Market data for the embedded stack: the ClickHouse schema, and recorded or generated trades to fill it with."""
