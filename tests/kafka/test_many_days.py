"""One block of a real broker holds trades of more days than ClickHouse takes by itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from tests.kafka.support import DOCKER, TOPICS, KafkaServer, connect_queues, count, detached, wait_until
from tests.stack.embedded.feed.support import messages_of_days
from tests.stack.embedded.gateway.conftest import Gateway

DAYS = 102
"""ClickHouse's own limit of partitions of one block is 100."""


def test_all_of_them_arrive_with_the_profile_of_the_production_stack(
    broker: KafkaServer, own_gateway: Gateway, tmp_path: Path
) -> None:
    profiles = ET.parse(DOCKER / "k2_users.xml").find("profiles")  # noqa: S314 - our own file
    assert profiles is not None
    configuration = tmp_path / "configuration.xml"
    configuration.write_text(
        f"<clickhouse><users_config>{configuration}</users_config>{ET.tostring(profiles, 'unicode')}"
        "<quotas><default/></quotas><users><default><password/><networks><ip>::/0</ip></networks>"
        "<profile>default</profile><quota>default</quota></default></users></clickhouse>"
    )
    own_gateway.arguments += ["--config-file", str(configuration)]
    own_gateway.start()
    client = connect_queues(own_gateway, broker, tmp_path / "schema")
    with detached(client, "binance"):
        broker.send(TOPICS["binance"], messages_of_days(DAYS), partition=0)
    for table in ("bronze_trades_binance", "silver_trades", "ohlcv_1d"):
        wait_until(lambda table=table: count(client, table) == DAYS)
