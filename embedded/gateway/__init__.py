"""One process that hosts a ClickHouse engine (chDB) and serves its native and HTTP protocols to many clients."""
