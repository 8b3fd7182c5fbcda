"""Telling who holds a port before anything is started."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import psutil

from embedded.stack.errors import StackError
from embedded.stack.processes import wait_until
from embedded.stack.settings import HOST, Ports

_LOWEST_PORT = 10_000


def require_free(ports: dict[str, int]) -> None:
    """Make sure that every port can be bound.

    :param ports: number by name, the names being fields of :class:`~embedded.stack.settings.Ports`
    :raises StackError: naming every busy port, who holds it, and the variable that changes it
    """

    def busy() -> dict[str, int]:
        return {name: number for name, number in ports.items() if not is_free(number)}

    # A killed process gives its ports back a moment after it is gone.
    wait_until(lambda: not busy(), timeout_seconds=2)
    still_busy = busy()
    if not still_busy:
        return
    lines = [f"Port {number} is in use by {describe_holder(number)}." for number in still_busy.values()]
    choice = " ".join(f"{Ports.variable(name)}={_next_free(number)}" for name, number in still_busy.items())
    raise StackError("\n".join([*lines, f"Nothing was started. Free it, or choose another: {choice} make up"]))


def is_free(number: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError:
            return False
    return True


def describe_holder(number: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        holders = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.laddr and connection.laddr.port == number and connection.status == psutil.CONN_LISTEN
        } - {None}
        process = psutil.Process(holders.pop())
        return f"process {process.pid} ({' '.join(process.cmdline())[:100] or process.name()}) of {process.username()}"
    except (KeyError, psutil.Error, OSError):
        return f"a process of another user (`sudo ss -ltnp 'sport = :{number}'` tells which)"


def _next_free(number: int) -> int:
    return next((other for other in range(number + 1, min(number + 100, 65536)) if is_free(other)), number)


def server_ports() -> range:
    """The ports that no outgoing connection takes by itself between looking and listening."""
    try:
        first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first_of_clients = 0
    return range(_LOWEST_PORT, first_of_clients if first_of_clients > 2 * _LOWEST_PORT else 1 << 16)


def free_ports(count: int, among: Sequence[int] | None = None) -> list[int]:
    """Ports that nobody listens on just now, all different.

    :param among: to choose from, at random; :func:`server_ports` when left out
    """
    candidates = server_ports() if among is None else among
    free = (number for number in random.sample(candidates, len(candidates)) if is_free(number))
    return list(islice(free, count))
