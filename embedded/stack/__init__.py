"""The embedded stack: Postgres, ClickHouse and Airflow as ordinary processes of one user, below one state folder.

From a shell: ``python -m embedded.stack up|down|status|env``. From Python::

    settings = StackSettings.from_environment(os.environ)
    up(settings, airflow=False)      # Postgres and ClickHouse, about five seconds
    ...
    down(settings)
"""

from embedded.stack.errors import StackError
from embedded.stack.lifecycle import ServiceStatus, down, status, up
from embedded.stack.settings import Ports, StackSettings

__all__ = ["Ports", "ServiceStatus", "StackError", "StackSettings", "down", "status", "up"]
