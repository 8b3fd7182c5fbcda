"""A DAG of one task: the real offload operator with the faulty job, and an execution timeout of seconds."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from k2_offload.adapters import airflow_config
from k2_offload.operators.offload import OffloadOperator

settings = airflow_config.load_settings()
with DAG("k2_test_timeout", schedule=None):
    operator = OffloadOperator(
        task_id="offload",
        job_group="test",
        plan=Path(os.environ["K2_TEST_PLAN"]).read_text(),
        conn_id=settings.spark_conn_id,
        spark_binary=settings.spark_binary,
        execution_timeout=timedelta(seconds=15),
    )
    operator.application = str(Path(__file__).parents[1] / "job.py")
