"""DAGs for the scheduler that the section ``cycle`` measures: this project's, and those of the method it replaces.

None has a schedule: the benchmark starts every run, and nothing else runs meanwhile.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

from embedded.install.layout import ROOT
from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.layer_dag import build_dag
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.tables import LAYERS, Tables

_CONTENDERS = ROOT / "bench" / "contenders"


class PlainSubmitOperator(SparkSubmitOperator):
    """One table in a Spark application of its own, with the default options of the JVM."""

    def execute(self, context: Any) -> None:
        """Submit, with the connections in the environment as this project's own job gets them."""
        settings = load_settings()
        self.env_vars = {
            **spark_submit.environment(settings.spark_python),
            JobConnections.VARIABLE: job_connections(settings).to_json(),
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
                    driver_class_path=spark_submit.classpath(settings.spark_jars),
                    conf={
                        "spark.ui.enabled": "false",
                        "spark.driver.extraJavaOptions": spark_submit.LOGGING,
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
    globals()[dag_id(layer)] = build_dag(layer, load_tables(tables_file), schedule=None)
for file in sorted(tables_file.parent.glob("tables_*.yaml")):
    globals()[f"old_{file.stem}"] = build_old_dag(f"old_{file.stem}", load_tables(file))
