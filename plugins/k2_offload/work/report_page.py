"""A report as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.lag import LAG_TARGET, lag_target
from k2_offload.work.report import LEDGER_ALONE, Report, summary, title
from k2_offload.work.templates import open_templates


def render(report: Report) -> str:
    """The file's text."""
    template = _templates().get_template("report.html")
    return template.render(report=report, title=title(report), summary=summary(report))


def write(report: Report, file: Path) -> None:
    """Write the file; a reader never finds half of one.

    :raises ConfigurationError: if it cannot be written
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(render(report), encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise ConfigurationError(
            f"The report cannot be written to {file}: {error.strerror}. No row is affected. Choose another place: "
            f"`k2 report --day {report.day} --output FILE`, or [k2_offload] report_folder for the DAG."
        ) from None


@cache
def _templates() -> Environment:
    return open_templates(ledger_alone=LEDGER_ALONE, target=LAG_TARGET, lag_target=lag_target)
