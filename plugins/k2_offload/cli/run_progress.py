"""What a run is doing, while it does it: a bar for the layers, and one for each table that moves."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from k2_offload.cli.console import PASSED
from k2_offload.cli.dag_runner import LayerEnded, WindowMoved

_BAR_WIDTH = 20


class RunProgress:
    """Bars that disappear at the end. A table's bar is full once its window is committed; no half of it is visible.

    :param layers: that will run, in their order
    """

    def __init__(self, console: Console, layers: Sequence[str]) -> None:
        columns = (
            SpinnerColumn(finished_text=PASSED),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[told]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._layers = list(layers)
        self._ended = 0
        self._tables: dict[str, TaskID] = {}
        self._whole = self._progress.add_task(f"{self._layers[0]}: loading Airflow", total=len(layers), told="")

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def lines(self) -> list[tuple[str, bool, str]]:
        """What stands there: each bar's text, whether it is full, and what is told beside it."""
        return [(task.description, task.finished, task.fields["told"]) for task in self._progress.tasks]

    def show(self, event: LayerEnded | WindowMoved) -> None:
        """Show one event."""
        if isinstance(event, LayerEnded):
            self._end_layer()
            return
        if event.table not in self._tables:
            self._tables[event.table] = self._progress.add_task(f"  {event.table}", total=None, told="")
        task, rows = self._tables[event.table], f"{event.rows:,} rows"
        if event.state == "open":
            if self._ended < len(self._layers):
                self._progress.update(self._whole, description=f"{self._layers[self._ended]}: moving")
            self._progress.reset(task, total=None, told=f"moving {rows}")
        else:
            seconds = "" if event.seconds is None else f" in {event.seconds:.1f} s"
            done = "left out" if event.state == "left_out" else "moved"
            self._progress.update(task, total=1, completed=1, told=f"{done} {rows}{seconds}")

    def _end_layer(self) -> None:
        self._ended += 1
        following = self._layers[self._ended :]
        text = f"{following[0]}: planning" if following else "ending"
        self._progress.update(self._whole, description=text, advance=1)
        for table, task in list(self._tables.items()):  # what did not move stands in the table at the end
            if not self._progress.tasks[self._progress.task_ids.index(task)].finished:
                self._progress.remove_task(task)
                del self._tables[table]
