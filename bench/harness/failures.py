"""What failed while everything else went on: kept for a look, named in the tables, and told at the end."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from embedded.install.layout import ROOT

FOLDER = ROOT / ".state" / "bench-failures"


class LoggedError(RuntimeError):
    """A failure whose reason stands in log files.

    :param logs: their folder, which need not outlive the run
    """

    def __init__(self, message: str, logs: Path) -> None:
        super().__init__(message)
        self.logs = logs


@dataclass(frozen=True)
class Failure:
    """A contender, or a whole section, that did not come to its end.

    :param log: what is known of it, relative to the checkout
    """

    name: str
    log: Path

    def line(self, columns: int) -> tuple[str, ...]:
        """Its line in a table of so many columns, two at least."""
        return (self.name, f"failed, see {self.log}", *[""] * (columns - 2))


@dataclass
class Failures:
    """All of one run of the benchmarks.

    :param folder: where logs are kept, below the checkout
    """

    folder: Path
    all: list[Failure] = field(default_factory=list)

    @classmethod
    def of_run(cls, started: datetime) -> Failures:
        """An empty list, with a folder of its own for the run that started at a time."""
        return cls(FOLDER / f"{started:%Y-%m-%dT%H%M%S}")

    def keep(self, name: str, error: Exception) -> Failure:
        """Write down what went wrong, and copy the logs while they are there."""
        kept = self.folder / f"{len(self.all) + 1:02d}"
        kept.mkdir(parents=True)
        log = kept / "error.txt"
        log.write_text(f"{name}\n\n{''.join(traceback.format_exception(error))}")
        if isinstance(error, LoggedError) and error.logs.is_dir():
            shutil.copytree(error.logs, kept / "logs", ignore_dangling_symlinks=True)
        shown = log.relative_to(ROOT) if log.is_relative_to(ROOT) else log
        failure = Failure(name, shown)
        self.all.append(failure)
        return failure
