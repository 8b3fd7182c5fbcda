"""How long anybody waits for anybody. Every limit is here, so that they can be read together.

A task lives for :data:`TASK_SECONDS`. What it waits for ends sooner, so that the error names the service that did not
answer and not the task that was killed.
"""

from __future__ import annotations

TASK_SECONDS = 600
"""Airflow's execution timeout of one attempt of a task."""

TASK_RETRIES = 2
TASK_RETRY_SECONDS = 30
"""Airflow tries a failed task again that often, after that long."""

LAYER_SECONDS = 14 * 60
"""How long a layer waits for the one below: less than the quarter of an hour after which the next cycle is due."""

CONNECT_SECONDS = 10
"""To open a connection to any service, its greeting included. A balancer without servers accepts and says nothing."""

QUERY_SECONDS = 600
"""Between two packets of a ClickHouse query: a server that sorts a large window says nothing for minutes."""

SILENCE_SECONDS = 60
"""A server that acknowledges nothing for so long has gone."""

CATALOG_SECONDS = 30
"""For an answer of a REST catalog or an object store. `plan` holds a row of the ledger meanwhile."""

STORE_ATTEMPTS = 8
"""How often ClickHouse asks an object store: some seconds if nothing listens there, four minutes if it is silent."""

LOCK_SECONDS = 60
"""For a row of the ledger that another run holds."""

IDLE_TRANSACTION_SECONDS = 600
"""A client that has vanished frees the row it holds after that."""

STEP_ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 8.0
"""A step that failed for a reason that may pass is tried so often, with growing pauses: about ten seconds in all."""

STAGE_ATTEMPTS = 5
PUBLISH_ATTEMPTS = 5
"""How often the job stages, or publishes, again because another writer came between; then the task's retry does."""
