"""The task that reports on a day."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.settings import load_settings
from k2_offload.core.errors import InvalidCondition, OffloadError
from k2_offload.work.report import check_day, read_report, yesterday
from k2_offload.work.report_page import write
from k2_offload.work.tiers import open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class ReportOperator(BaseOperator):
    """Reports on a day, in the log, and in a file if a folder is set.

    Without a choice it is the day before the run's own time: a run that is cleared later reports on the same day.
    """

    def execute(self, context: Context) -> None:
        """Read everything; what cannot be read is missing, with the reason, and another attempt is made.

        :raises AirflowFailException: if the day is none, or has not begun
        :raises OffloadError: once what there is has been written, if a part is missing
        """
        with open_tiers() as tiers:
            chosen, run_at = context["params"]["day"], context["dag_run"].run_after
            try:
                bounds = check_day(date.fromisoformat(chosen) if chosen else yesterday(run_at), tiers.now())
            except (InvalidCondition, ValueError) as error:
                raise AirflowFailException(str(error)) from None
            report = read_report(tiers, list(tiers.tables.by_name.values()), bounds)
        note = report.note
        if folder := load_settings().report_folder:
            file = Path(folder) / f"k2-{report.day}.html"
            write(report, file)
            note += f"\n\n{file}"
        for line in note.splitlines():
            log.info("%s", line)
        if report.incomplete:
            raise OffloadError(f"The report lacks a part of: {', '.join(report.incomplete)}; the reason is above.")
