"""The one way to a Spark session that knows the cold tables' catalog."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from k2_offload.core.connections import CatalogSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def start_session(
    catalog: CatalogSettings, *, procedures: bool = False, cached: bool = True, master: str | None = None
) -> SparkSession:
    """Start Spark's context, which takes seconds, or take the one that runs.

    :param procedures: whether Iceberg's SQL is wanted: CALL …, and its kinds of ALTER TABLE
    :param cached: whether the session may remember tables; one beside which others commit must not
    :param master: in place of the one that the application was submitted to
    """
    from pyspark.sql import SparkSession

    prefix = f"spark.sql.catalog.{catalog.name}"
    options = {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",  # as ClickHouse has it
    }
    options |= {f"{prefix}.{key}": value for key, value in catalog.java.items()}
    # Of the catalog nothing is shown: Spark's own pattern knows no headers, account keys or passwords in addresses.
    options["spark.redaction.regex"] = rf"(?i)secret|password|token|credential|access[.]?key|{re.escape(prefix)}"
    if master is not None:
        options["spark.master"] = master
    if not cached:
        options[f"{prefix}.cache-enabled"] = "false"
    if procedures:
        options["spark.sql.extensions"] = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
    return SparkSession.builder.config(map=options).getOrCreate()
