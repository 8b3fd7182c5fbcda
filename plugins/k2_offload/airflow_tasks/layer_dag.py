"""Renders a layer of the table file into an Airflow DAG: wait → plan → offload (mapped) → commit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from k2_offload.adapters.schedule import shortest_pause
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.commit import CommitWatermarkOperator
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.params import tables_param, task_defaults
from k2_offload.airflow_tasks.plan import PlanOffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.airflow_tasks.wait import UpstreamLayerSensor
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.limits import (
    PARALLEL_APPLICATIONS,
    layer_seconds,
    missing_run_seconds,
    run_seconds,
)
from k2_offload.core.tables import LAYERS, Tables

SCHEDULE_OF_SETTINGS = "settings"

_DOC = Path(__file__).with_suffix(".md")


def build_dag(layer: str, tables: Tables, schedule: str | None = SCHEDULE_OF_SETTINGS) -> DAG:
    """The DAG of one layer.

    ``plan`` and ``commit`` are set-up and teardown of ``offload``: clearing ``offload`` clears them with it, and
    ``commit`` runs, and records what was published, also when ``offload`` failed. A teardown has no say in the run's
    state unless told to, and then it alone has; so ``offload`` decides, and a lost ``commit`` is made up by ``plan``.

    :param schedule: the same for all layers, for they wait for each other's run of the same time; ``None`` for none
    """
    settings = load_settings()
    if schedule == SCHEDULE_OF_SETTINGS:
        schedule = settings.schedule
    specs = tables.in_layer(layer)
    names = [table.name for table in specs]
    task_seconds = settings.task_timeout_seconds
    with DAG(
        dag_id=dag_id(layer),
        description=f"Moves what is new in the {layer} tables from ClickHouse to Iceberg, exactly once",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        dagrun_timeout=timedelta(seconds=run_seconds(len({table.job_group for table in specs}), task_seconds)),
        default_args=task_defaults(task_seconds),
        tags=["k2", "offload", layer],
        doc_md=_DOC.read_text().format(
            layer=layer, schedule=schedule, tables="\n".join(f"- `{t.source}` → `{t.target}`" for t in specs)
        ),
        params={"tables": tables_param("move", names)},
    ) as dag:
        plan = PlanOffloadOperator(task_id="plan", layer=layer).as_setup()  # type: ignore[no-untyped-call]
        offload = (
            with_runner(OffloadOperator)
            .partial(task_id="offload", max_active_tis_per_dagrun=PARALLEL_APPLICATIONS)
            .expand_kwargs(plan.output)
        )
        commit = CommitWatermarkOperator(task_id="commit", layer=layer).as_teardown()
        plan >> offload >> commit
        plan >> commit
        if layer != LAYERS[0]:
            below = LAYERS[LAYERS.index(layer) - 1]
            pause = shortest_pause(schedule or settings.schedule)
            wait = UpstreamLayerSensor(
                task_id=f"wait_for_{below}",
                external_dag_id=dag_id(below),
                timeout=layer_seconds(task_seconds),
                missing_seconds=missing_run_seconds(pause.total_seconds()),
            )
            wait >> plan
    return dag
