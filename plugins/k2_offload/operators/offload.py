"""The ``offload`` task: one Spark application that moves the windows of one plan."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload import spark_application
from k2_offload.adapters.airflow_config import check_connection, load_job_connections, load_settings
from k2_offload.adapters.java import check_java
from k2_offload.core.connections import JobConnections
from k2_offload.core.plan import Plan


class OffloadOperator(SparkSubmitOperator):
    """Submits ``include/spark_jobs/offload.py`` with one plan.

    Secrets travel in the application's environment only, set when the task runs: they are in no rendered template,
    argument or log.

    :param job_group: names the mapped task in the UI
    :param plan: :class:`~k2_offload.core.plan.Plan` as JSON, from ``plan``
    :param refusal: instead of a plan, why the table could not be planned; the task then fails with it
    """

    def __init__(self, *, job_group: str, plan: str = "", refusal: str = "", **kwargs: Any) -> None:
        super().__init__(application=str(spark_application.OFFLOAD), name=f"k2-offload-{job_group}", **kwargs)
        self.job_group = job_group
        self.plan = plan
        self.refusal = refusal

    def execute(self, context: Any) -> None:
        """Run the application; every window it published stays published if it fails afterwards."""
        if self.refusal:
            raise AirflowFailException(self.refusal)
        settings = load_settings()
        check_connection(self._conn_id)
        check_java()
        plan = Plan.from_json(self.plan)
        self.driver_class_path = spark_application.classpath(settings.spark_jars)
        short = all(table.transport == "export" for table in plan.tables)
        self.conf = {
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": spark_application.driver_options(
                settings.spark_class_archive, short=short
            ),
        } | (self.conf or {})
        self.env_vars = {
            **spark_application.environment(settings.spark_python),
            JobConnections.VARIABLE: load_job_connections(settings).to_json(),
        }
        with tempfile.TemporaryDirectory(prefix="k2-offload-") as folder:
            plan_file = Path(folder) / "plan.json"
            plan_file.write_text(self.plan)
            self.application_args = [str(plan_file), "--parallel-tables", str(settings.parallel_tables)]
            super().execute(context)
