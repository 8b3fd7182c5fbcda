"""Why a run failed, read from logs as Airflow writes them."""

from __future__ import annotations

import json

import pytest

from k2_offload.cli.run_log import as_console, find_reasons

REFUSAL = "t_big: column 'price' is Int256; Iceberg has no type that keeps its values. Run `k2 validate`."
PLAN_LINE = (
    f"2026-11-21T05:44:16.753686Z [error    ] {REFUSAL} "
    "[airflow.task.operators.k2_offload.operators.plan.PlanOffloadOperator] loc=plan.py:48"
)
HEADLINE = "2026-11-21T05:44:20.581041Z [error    ] Task failed with exception     [task] loc=task_runner.py:1639"
NEXT_LINE = "2026-11-21T05:44:21.000000Z [info     ] ::endgroup::   [task] loc=task_runner.py:2379"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "offload.py", line 66, in execute\n    super().execute(context)\n'
)


def log(*parts):
    return "\n".join(parts)


def test_what_a_task_reports_is_the_reason_once_and_without_its_logger():
    assert find_reasons(log(PLAN_LINE, PLAN_LINE, HEADLINE, TRACEBACK + f"AirflowFailException: {REFUSAL}")) == [
        REFUSAL
    ]


def test_what_the_spark_job_reports_is_a_reason():
    line = (
        "2026-11-21T05:44:16.7Z [info     ] ERROR t [a, b): 3 rows were staged but ClickHouse counts 4. "
        "[airflow.task.hooks.airflow.providers.apache.spark.hooks.spark_submit.SparkSubmitHook] loc=spark_submit.py:965"
    )
    assert find_reasons(line) == ["t [a, b): 3 rows were staged but ClickHouse counts 4."]


def test_what_the_job_reported_is_not_said_again_by_spark_submit():
    failed = log(
        HEADLINE,
        TRACEBACK + "AirflowException: Cannot execute: /opt/spark-submit --master local[2]. Error code is: 1.",
        "Last spark-submit output:",
        "ERROR a [x, y): 3 rows were staged but ClickHouse counts 4.",
        "b [x, y): published 7 rows",
        NEXT_LINE,
    )
    assert find_reasons(failed) == []


def test_errors_that_are_json_are_reasons_all_the_same():
    said = json.dumps({"time": "…", "level": "error", "phase": "offload", "table": "a", "message": REFUSAL})
    fine = json.dumps({"time": "…", "level": "info", "phase": "stage", "table": "b", "message": "b: staged 3 rows"})
    assert find_reasons(f"2026-11-21T05:44:16.7Z [info     ] {said}\n2026-11-21T05:44:16.7Z [info     ] {fine}") == [
        REFUSAL
    ]
    failed = log(
        HEADLINE,
        f"2026-11-21T05:44:16.7Z [error    ] {said} [airflow.task.operators.k2_offload] loc=plan.py:48",
        TRACEBACK + "AirflowException: Cannot execute: /opt/spark-submit --master local[2]. Error code is: 1.",
        "Last spark-submit output:",
        said,
        fine,
        NEXT_LINE,
    )
    assert find_reasons(failed) == [REFUSAL]


def test_one_tables_report_does_not_hide_anothers_exception():
    failed = log(PLAN_LINE, HEADLINE, TRACEBACK + "FileNotFoundError: '/none/spark-submit'", NEXT_LINE)
    assert find_reasons(failed) == [REFUSAL, "FileNotFoundError: '/none/spark-submit'"]


def test_an_exception_counts_where_nothing_was_reported():
    failed = log(HEADLINE, TRACEBACK + "FileNotFoundError: No such file or directory: '/none/spark-submit'", NEXT_LINE)
    assert find_reasons(failed) == ["FileNotFoundError: No such file or directory: '/none/spark-submit'"]


def test_the_last_words_of_spark_submit_say_more_than_that_it_failed():
    failed = log(
        HEADLINE,
        TRACEBACK + "AirflowException: Cannot execute: /opt/spark-submit --master local[2]. Error code is: 1.",
        "Last spark-submit output:",
        "sys.exit(main())",
        "TypeError: 'JavaPackage' object is not callable",
        NEXT_LINE,
    )
    assert find_reasons(failed) == ["TypeError: 'JavaPackage' object is not callable"]


@pytest.mark.parametrize("code", [-9, 137])
def test_a_job_that_was_killed_is_said_to_be_killed(code):
    failed = log(
        HEADLINE,
        TRACEBACK + f"AirflowException: Cannot execute: /opt/spark-submit --master local[2]. Error code is: {code}.",
        "Last spark-submit output:",
        "t [a, b): already filled, found in 0.7 s",
        "t: exported 85ca-0-0.parquet",
        NEXT_LINE,
    )
    [reason] = find_reasons(failed)
    assert reason.startswith("the Spark application was killed by SIGKILL: ")
    assert reason.endswith("It said last: t: exported 85ca-0-0.parquet")


def test_a_dag_file_that_cannot_be_loaded_is_a_reason():
    failed = f"ERROR /dags/offload_layers.py: {TRACEBACK}InvalidTablesFile: tables.yaml: 'x' stands twice"
    assert find_reasons(failed) == ["InvalidTablesFile: tables.yaml: 'x' stands twice"]


def test_a_good_run_has_no_reasons():
    assert find_reasons(log(NEXT_LINE, "", "spark: plain output")) == []


def test_a_task_log_file_reads_like_the_console():
    entry = {
        "timestamp": "2026-11-21T05:56:47Z",
        "level": "error",
        "event": "Task failed with exception",
        "error_detail": [{"exc_type": "ValueError", "exc_value": "no such table"}],
    }
    lines = list(as_console(json.dumps(entry)))
    assert find_reasons("\n".join(lines)) == ["ValueError: no such table"]
    assert list(as_console("not JSON")) == ["not JSON"]
    assert list(as_console("[1]")) == ["[1]"]
