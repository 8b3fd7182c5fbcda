"""The ``offload`` task: one Spark application that moves the windows of one plan."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.airflow_config import check_connection, load_job_connections, load_settings
from k2_offload.adapters.java import check_java
from k2_offload.core.connections import JobConnections
from k2_offload.core.plan import Plan

_JOB_FOLDER = Path(__file__).parents[3] / "include" / "spark_jobs"
# A short job never earns back what the optimising compiler costs.
_SHORT_JOB_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class OffloadOperator(SparkSubmitOperator):
    """Submits ``include/spark_jobs/offload.py`` with one plan.

    Secrets travel in the application's environment only, set when the task runs: they are in no rendered template,
    argument or log.

    :param job_group: names the mapped task in the UI
    :param plan: :class:`~k2_offload.core.plan.Plan` as JSON, from ``plan``
    :param refusal: instead of a plan, why the table could not be planned; the task then fails with it
    """

    def __init__(self, *, job_group: str, plan: str = "", refusal: str = "", **kwargs: Any) -> None:
        super().__init__(application=str(_JOB_FOLDER / "offload.py"), name=f"k2-offload-{job_group}", **kwargs)
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
        self.driver_class_path = settings.spark_jars.replace(",", ":")
        self.conf = {
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": " ".join(
                [
                    f"-Dlog4j2.configurationFile={(_JOB_FOLDER / 'log4j2.properties').as_uri()}",
                    *([_SHORT_JOB_OPTIONS] if all(table.transport == "export" for table in plan.tables) else []),
                ]
            ),
        } | (self.conf or {})
        self.env_vars = {
            "PYSPARK_PYTHON": settings.spark_python,
            "PYSPARK_DRIVER_PYTHON": settings.spark_python,
            JobConnections.VARIABLE: load_job_connections(settings).to_json(),
        }
        with tempfile.TemporaryDirectory(prefix="k2-offload-") as folder:
            plan_file = Path(folder) / "plan.json"
            plan_file.write_text(self.plan)
            self.application_args = [str(plan_file), "--parallel-tables", str(settings.parallel_tables)]
            super().execute(context)
