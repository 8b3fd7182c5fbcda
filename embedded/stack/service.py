"""What the stack knows of each service, whatever it is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Service:
    """A long-running process.

    :param name: in tables, logs and process records
    :param address: where it is reached, for people; empty if nowhere
    :param ports: the ports it listens on, by their names in :class:`~embedded.stack.settings.Ports`
    :param command: says what to run
    :param probe: whether it answers. Called while it runs; returns False rather than raise
    :param variables: what its environment holds beside the stack's
    :param stop_signal: the signal after which it ends by itself, in order
    :param folder: its working directory
    :param stop_order: services with a lower number are stopped before those with a higher one
    """

    name: str
    address: str
    ports: Mapping[str, int]
    command: Callable[[], Sequence[str | Path]]
    probe: Callable[[], bool]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_order: int = 0
    start_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 15.0
