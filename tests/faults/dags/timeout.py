"""A DAG of one task: the real offload operator with the faulty job, and an execution timeout of seconds."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner

with DAG("k2_test_timeout", schedule=None):
    operator = with_runner(OffloadOperator)(
        task_id="offload",
        job_group="test",
        plan=Path(os.environ["K2_TEST_PLAN"]).read_text(),
        execution_timeout=timedelta(seconds=15),
    )
    operator.application = str(Path(__file__).parents[1] / "job.py")
