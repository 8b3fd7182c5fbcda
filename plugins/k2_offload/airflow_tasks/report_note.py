"""Makes the text of a report the note of its run: the scheduler does it, since a task may not write notes."""

from __future__ import annotations

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy.orm import object_session

from k2_offload.airflow_tasks.dag_ids import REPORT_NOTE_KEY
from k2_offload.work.report import NOTE_BEGINS


def take_note(dag_run: DagRun) -> None:
    """Note what the run's task has said; a note that a person has written stays.

    :param dag_run: of the report's DAG, in the session of the scheduler, which ends it
    """
    session = object_session(dag_run)
    if session is None or (dag_run.note and not dag_run.note.startswith(NOTE_BEGINS)):
        return
    query = XComModel.get_many(run_id=dag_run.run_id, key=REPORT_NOTE_KEY, dag_ids=dag_run.dag_id, limit=1)
    if (found := session.scalars(query).first()) is not None:
        dag_run.note = XComModel.deserialize_value(found)
