"""The ``offload`` task: one Spark application that moves the windows of one plan."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import job_connections, spark_master
from k2_offload.adapters.java import check_java
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.core.connections import JobConnections
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.plan import Plan
from k2_offload.core.transports import TRANSPORTS


class OffloadOperator(SparkSubmitOperator):
    """Submits ``include/spark_jobs/offload.py`` with one plan.

    Secrets travel in the application's environment only, which it inherits from the task's process: they are in no
    rendered template, argument or log. The provider's ``env_vars`` would put them on the command line for some masters.
    Everything else of the application comes from the package's settings.

    :param job_group: names the application
    :param plan: :class:`~k2_offload.core.plan.Plan` as JSON, from ``plan``
    """

    def __init__(self, *, job_group: str, plan: str, **kwargs: Any) -> None:
        settings = load_settings()
        super().__init__(
            application=str(spark_submit.OFFLOAD),
            name=f"k2-offload-{job_group}",
            conn_id=settings.spark_conn_id,
            spark_binary=settings.spark_binary,
            **kwargs,
        )
        self.job_group = job_group
        self.plan = plan
        self.settings = settings

    def execute(self, context: Any) -> None:
        """Move and heal, then fail with the tables that were refused; what is published stays published.

        :raises AirflowFailException: if a table was refused; another attempt would not help
        """
        try:
            plan = Plan.from_json(self.plan)
        except ConfigurationError as error:
            raise AirflowFailException(
                f"{error}. It was made by another version of this package. Nothing was moved and no row is lost: the "
                "next run plans again, or clear this run's `plan`."
            ) from None
        for refused in plan.refused:
            self.log.error("%s", refused.reason)
        if plan.windows or plan.heals:
            spark_master(self.settings)
            check_java()
            self._configure(plan, self.settings)
            variables = {
                **spark_submit.environment(self.settings.spark_python),
                JobConnections.VARIABLE: job_connections(self.settings).to_json(),
            }
            with tempfile.TemporaryDirectory(prefix="k2-offload-") as folder, _environment(variables):
                plan_file = Path(folder) / "plan.json"
                plan_file.write_text(self.plan)
                self.application_args = [str(plan_file), "--parallel-tables", str(self.settings.parallel_tables)]
                super().execute(context)
        if plan.refused:
            raise AirflowFailException("\n".join(refused.reason for refused in plan.refused))

    def _configure(self, plan: Plan, settings: Settings) -> None:
        short = all(TRANSPORTS[rows.transport].short for rows in (*plan.windows, *plan.heals))
        java_options = spark_submit.driver_options(settings.spark_class_archive, short=short)
        self.driver_class_path = spark_submit.classpath(settings.spark_jars)
        self.conf = {
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": java_options,
        } | (self.conf or {})


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, which runs one task, and of what it starts."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
