"""The ``k2`` command and its subcommands."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from k2_offload import __version__
from k2_offload.cli import (
    accept,
    adopt,
    backfill,
    class_archive,
    doctor,
    heal,
    kubernetes_secret,
    maintain,
    register,
    report,
    retention,
    run,
    schema,
    status,
    validate,
    verify,
    view,
    watermark,
)

app = typer.Typer(
    name="k2",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001 - its callback shows it
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Moves new rows from ClickHouse to Apache Iceberg, exactly once.

    Exit codes: 0 fine, 1 a finding or failure, 2 bad input.
    """
    # Without it Airflow does not look for connections in its database, only in the environment and a secrets backend.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


app.command("validate")(validate.validate)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("report")(report.report)
app.command("verify")(verify.verify)
app.command("view")(view.view)
app.add_typer(watermark.app, name="watermark")
app.command("adopt")(adopt.adopt)
app.command("register")(register.register)
app.command("accept")(accept.accept)
app.command("heal")(heal.heal)
app.command("backfill")(backfill.backfill)
app.command("schema")(schema.schema)
app.command("maintain")(maintain.maintain)
app.command("retention")(retention.retention)
app.command("class-archive")(class_archive.class_archive)
app.command("kubernetes-secret")(kubernetes_secret.kubernetes_secret)
