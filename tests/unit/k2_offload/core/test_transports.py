"""The registry of transports: what stands in it can be loaded, and its limits hold."""

from __future__ import annotations

import pytest

from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.transports import TRANSPORTS, Transport
from offload_job.transport import load_transport

CONNECTIONS = JobConnections(ClickHouseEndpoint("c", "h", 1, 2, "u", "p", "d", False), None, "lake")


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_each_can_be_loaded_by_its_name(name):
    assert callable(load_transport(name, CONNECTIONS, "local[2]").stage)


@pytest.mark.parametrize(("limit", "wanted", "rows"), [(None, 5, 5), (3, 5, 3), (5, 3, 3)])
def test_a_transport_may_want_smaller_files(limit, wanted, rows):
    assert Transport("m:C", limit).limit_file_rows(wanted) == rows


def test_spark_writes_to_no_table_that_it_could_publish_by_itself():
    assert TRANSPORTS["jdbc"].table_properties == {"write.wap.enabled": "true", "commit.retry.num-retries": "0"}
