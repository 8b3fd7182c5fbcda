"""Starts runs as the scheduler would, in the Airflow of ``AIRFLOW_HOME``.

python -m embedded.stack.start_runs RUN_ID LOGICAL_DATE CONF DAG…

The API and the command line start manual runs only; those wait for no other layer.
"""

from __future__ import annotations

import sys
from datetime import datetime

from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType, DagRunType

run_id, logical_date, conf, *dags = sys.argv[1:]
for dag in dags:
    trigger_dag(
        dag,
        run_id=run_id,
        run_type=DagRunType.SCHEDULED,
        logical_date=datetime.fromisoformat(logical_date),
        conf=conf,
        triggered_by=DagRunTriggeredByType.TEST,
    )
