"""A line says what it is about, as text and as JSON; a job's error is found in both."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters import log_lines
from k2_offload.adapters.log_lines import AsJson, about, print_lines, read_job_line
from k2_offload.core.windows import Window

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TOLD = about("publish", "t", Window(NOON, NOON + timedelta(hours=1)), rows=7, bytes=900, seconds=0.25)
job = logging.getLogger("offload_job.move")
task = logging.getLogger("airflow.task.operators.k2_offload.airflow_tasks.plan.PlanOffloadOperator")
foreign = logging.getLogger("airflow.task.hooks.airflow.providers.apache.spark.hooks.spark_submit.SparkSubmitHook")


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a job prints; gives a function that takes the form of its lines."""
    ours = [logging.getLogger(name) for name in ("k2_offload", "offload_job")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in ours]

    def say(form):
        monkeypatch.setenv(log_lines.FORMAT_VARIABLE, form)
        print_lines()
        job.info("t: published %d rows", 7, extra=TOLD)
        job.error("t: 100 %% wrong", extra=about("offload", "t"))
        job.error("%s", "t: 5 % wrong")
        try:
            raise KeyError("x\ny")
        except KeyError:
            job.exception("t: unexpected")
        logging.getLogger("k2_offload.adapters.retry").info("not worth a line")
        return capsys.readouterr().out.splitlines()

    yield say
    for logger, (logger.handlers, logger.propagate, level) in zip(ours, before, strict=True):
        logger.setLevel(level)


def test_as_text_it_is_the_message_and_an_error_begins_with_the_word(printed):
    lines = printed("text")
    assert lines[:4] == ["t: published 7 rows", "ERROR t: 100 %% wrong", "ERROR t: 5 % wrong", "ERROR t: unexpected"]
    assert lines[4] == "Traceback (most recent call last):"
    assert [read_job_line(line) for line in lines[:3]] == [
        (False, "t: published 7 rows"),
        (True, "t: 100 %% wrong"),
        (True, "t: 5 % wrong"),
    ]


def test_as_json_each_line_is_an_object_with_its_numbers(printed):
    lines = printed("json")
    first, *_, last = [json.loads(line) for line in lines]
    assert len(lines) == 4
    assert datetime.now(UTC) - datetime.fromisoformat(first.pop("time")) < timedelta(minutes=1)
    assert first == {
        "level": "info",
        "phase": "publish",
        "table": "t",
        "window_start": "2026-03-04T12:00:00.000000Z",
        "window_end": "2026-03-04T13:00:00.000000Z",
        "rows": 7,
        "bytes": 900,
        "seconds": 0.25,
        "message": "t: published 7 rows",
    }
    assert (last["message"], "KeyError" in last["exception"]) == ("t: unexpected", True)
    assert [read_job_line(line)[0] for line in lines] == [False, True, True, True]
    assert read_job_line(lines[2]) == (True, "t: 5 % wrong")


@pytest.mark.parametrize("line", ["", "{}", "[1]", "7", "spark: plain {output}", '{"level": "error"}'])
def test_what_another_program_prints_is_no_error_of_the_job(line):
    assert read_job_line(line) == (False, line)


def test_a_tasks_own_lines_become_json_once_and_no_others(caplog, monkeypatch):
    monkeypatch.setattr(caplog.handler, "filters", [AsJson(), AsJson()])
    with caplog.at_level(logging.INFO):
        task.info("%s: planned", "t", extra=TOLD)
        foreign.info("spark: %d", 1)
    ours, theirs = caplog.messages
    assert json.loads(ours)["message"] == "t: planned"
    assert json.loads(ours)["window_end"] == "2026-03-04T13:00:00.000000Z"
    assert theirs == "spark: 1"
