"""DAGs for the scheduler that the section ``cycle`` measures: this project's, and those of the method it replaces.

None has a schedule: the benchmark starts every run, and nothing else runs meanwhile.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

from embedded.install.layout import ROOT
from k2_offload import spark_application
from k2_offload.adapters.airflow_config import load_job_connections, load_settings, load_tables
from k2_offload.core.connections import JobConnections
from k2_offload.core.tables import LAYERS, Tables, parse_tables
from k2_offload.dag_factory import build_dag, dag_id

_CONTENDERS = ROOT / "bench" / "contenders"


class PlainSubmitOperator(SparkSubmitOperator):
    """One table in a Spark application of its own, with the default options of the JVM."""

    def execute(self, context: Any) -> None:
        """Submit, with the connections in the environment as this project's own job gets them."""
        settings = load_settings()
        self.env_vars = {
            **spark_application.environment(settings.spark_python),
            JobConnections.VARIABLE: load_job_connections(settings).to_json(),
        }
        super().execute(context)


def build_old_dag(name: str, tables: Tables) -> DAG:
    """A task per table, layer after layer; the window comes from the run's configuration."""
    settings = load_settings()
    with DAG(dag_id=name, schedule=None) as dag:
        below: list[PlainSubmitOperator] = []
        for layer in LAYERS:
            tasks = [
                PlainSubmitOperator(
                    task_id=table.name,
                    application=str(_CONTENDERS / "old_window.py"),
                    application_args=[
                        *(table.source, f"old_{table.target}", table.timestamp_column, table.partition_column),
                        *("{{ dag_run.conf['low'] }}", "{{ dag_run.conf['high'] }}"),
                    ],
                    conn_id=settings.spark_conn_id,
                    spark_binary=settings.spark_binary,
                    driver_class_path=spark_application.classpath(settings.spark_jars),
                    conf={
                        "spark.ui.enabled": "false",
                        "spark.driver.extraJavaOptions": spark_application.LOGGING,
                    },
                )
                for table in tables.in_layer(layer)
            ]
            for task in tasks:
                task.set_upstream(below)
            below = tasks
    return dag


tables_file = load_settings().tables_file
for layer in LAYERS:
    globals()[dag_id(layer)] = build_dag(layer, load_tables(load_settings()), load_settings(), schedule=None)
for file in sorted(tables_file.parent.glob("tables_*.yaml")):
    globals()[f"old_{file.stem}"] = build_old_dag(f"old_{file.stem}", parse_tables(file.read_text()))
