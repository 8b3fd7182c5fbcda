"""The shared stack with its lake on S3 and its catalog behind REST."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from embedded.stack import postgres
from embedded.stack.processes import STACK_VARIABLE
from embedded.stack.settings import HOST
from tests.proxy import Proxy
from tests.real.servers import BUCKET, KEY_ID, REGION, SECRET, ObjectStore, RestCatalog
from tests.stack.conftest import stack
from tests.stack.k2_offload.conftest import start_spark, workbench
from tests.support import SharedStack, free_ports

__all__ = ["stack", "start_spark", "workbench"]

COLLECTION = "k2_lake"


@dataclass(frozen=True)
class Lake:
    """Both servers, and how commands reach them: through proxies.

    :param to_database: between the catalog and its Postgres
    """

    stack: SharedStack
    store: ObjectStore
    catalog: RestCatalog
    to_store: Proxy
    to_catalog: Proxy
    to_database: Proxy
    tables_file: Path | None = None

    @property
    def endpoint(self) -> str:
        """Where everybody reaches the store."""
        return _url(self.to_store)

    def with_tables(self, file: Path) -> Lake:
        """The same, with another table file."""
        return replace(self, tables_file=file)

    @property
    def variables(self) -> dict[str, str]:
        """What leads Airflow's commands to the lake."""
        layout = self.stack.settings.layout
        jars = [*layout.spark_jars.split(","), *map(str, sorted(layout.s3_jars.glob("*.jar")))]
        own_tables = {"AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(self.tables_file)} if self.tables_file else {}
        return own_tables | {
            "AIRFLOW_CONN_REAL_LAKE": json.dumps(self.catalog_connection()),
            "AIRFLOW__K2_OFFLOAD__CATALOG_CONN_ID": "real_lake",
            "AIRFLOW__K2_OFFLOAD__SPARK_JARS": ",".join(jars),
            "AIRFLOW__K2_OFFLOAD__SPARK_CLASS_ARCHIVE": "",  # it was made for other jars
        }

    def catalog_connection(self, **changes: Any) -> dict[str, Any]:
        """The fields of the Airflow connection.

        :param changes: to its extra; ``None`` takes a key away
        """
        extra = {
            "catalog_type": "rest",
            "catalog_name": "demo",
            "warehouse": f"s3://{BUCKET}/warehouse",
            "s3.endpoint": self.endpoint,
            "s3.path-style-access": "true",
            "client.region": REGION,
            "s3.access-key-id": KEY_ID,
            "s3.secret-access-key": SECRET,
        } | changes
        extra = {key: value for key, value in extra.items() if value is not None}
        return {"conn_type": "iceberg", "host": _url(self.to_catalog), "extra": extra}

    def k2(self, *arguments: str, exit_code: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command; what it prints holds no stack trace.

        :param exit_code: ``None`` if it may be any
        """
        result = subprocess.run(
            ["k2", *arguments],
            env={**self.stack.environment, **self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert exit_code in (None, result.returncode), result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr
        return result

    def json(self, *arguments: str, **options: Any) -> Any:
        """What a command says with ``--json``."""
        return json.loads(self.k2(*arguments, "--json", **options).stdout)

    def make_collection(self, *, bucket: str = BUCKET, secret: str = SECRET, endpoint: str | None = None) -> None:
        """The named collection by which ClickHouse reaches the store, made anew."""
        with self.stack.clickhouse_client() as client:
            client.execute(f"DROP NAMED COLLECTION IF EXISTS {COLLECTION}")
            client.execute(
                f"CREATE NAMED COLLECTION {COLLECTION} AS "
                f"url = '{endpoint or self.endpoint}/{bucket}/' NOT OVERRIDABLE, "
                f"access_key_id = '{KEY_ID}', secret_access_key = '{secret}'"
            )


@pytest.fixture(scope="session", autouse=True)
def lake(stack: SharedStack) -> Iterator[Lake]:
    """Both servers run, and the settings of this process and of commands lead to them."""
    layout = stack.settings.layout
    store_port, catalog_port = free_ports(2)
    marks = {STACK_VARIABLE: str(stack.settings.state)}
    folder = stack.settings.state / "lake"
    with ExitStack() as resources:
        ports = (store_port, catalog_port, stack.settings.ports.postgres)
        to_store, to_catalog, to_database = (resources.enter_context(Proxy(port)) for port in ports)
        store = ObjectStore(layout, folder, store_port, marks)
        database = {
            "uri": f"jdbc:postgresql://{HOST}:{to_database.port}/{postgres.ICEBERG_DATABASE}",
            "user": postgres.USER,
            "password": stack.secrets.postgres_password,
        }
        catalog = RestCatalog(layout, folder, catalog_port, marks, database, _url(to_store))
        for server in (store, catalog):
            resources.callback(server.kill)
            server.start()
        store.set_up()
        lake = Lake(stack, store, catalog, to_store, to_catalog, to_database)
        lake.make_collection()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in lake.variables.items():
                patch.setenv(name, value)
            yield lake


@pytest.fixture(scope="session")
def warehouse(lake: Lake) -> Path:
    """The folder in which the store keeps what is in the warehouse."""
    return lake.store.data / BUCKET / "warehouse"


@pytest.fixture(autouse=True)
def calm(lake: Lake) -> Iterator[None]:
    """What a proxy was told to do does not happen in another test."""
    yield
    for proxy in (lake.to_store, lake.to_catalog, lake.to_database):
        proxy.rules.clear()


def _url(proxy: Proxy) -> str:
    return f"http://{HOST}:{proxy.port}"
