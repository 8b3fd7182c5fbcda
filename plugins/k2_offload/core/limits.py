"""How long anybody waits for anybody. Every limit is here, so that they can be read together.

A task lives for :data:`TASK_SECONDS`, or as long as the settings say. What it waits for ends sooner, so that the error
names the service that did not answer and not the task that was killed; what waits for it follows from it.
"""

from __future__ import annotations

from math import ceil

TASK_SECONDS = 600
"""Airflow's execution timeout of one attempt of a task, unless the settings say otherwise.

It is also how long a server that sorts a large window may say nothing between two packets of a ClickHouse query, and
how long a client that has vanished keeps the row of the ledger that it holds: a plan that is alive waits for ClickHouse
meanwhile.
"""

SHORTEST_TASK_SECONDS = 120
"""Less would be over before a service that does not answer is given up."""

TASK_RETRIES = 2
TASK_RETRY_SECONDS = 30
"""Airflow tries a failed task again that often, after that long."""

BACKFILL_SECONDS = 12 * 60 * 60
"""The same of `backfill`: it brings months, and begins no further windows after half of that."""

MAINTENANCE_SECONDS = 2 * 60 * 60
"""Airflow's execution timeout of the task that tidies all cold tables. What is done by then stays done."""

PARALLEL_APPLICATIONS = 2
"""How many Spark applications of a run work at once."""

MISSING_RUN_SECONDS = 120
"""How long it waits where the layer below has no run of the same time: its DAG is paused, or an earlier run goes on."""


def missing_run_seconds(pause_seconds: float) -> float:
    """The same, where cycles may follow each other faster: no longer than the next one takes to come.

    :param pause_seconds: the least time between the beginnings of two cycles
    """
    return min(MISSING_RUN_SECONDS, pause_seconds)


CONNECT_SECONDS = 10
"""To open a connection to any service, its greeting included. A balancer without servers accepts and says nothing."""

SHORTEST_CONNECT_SECONDS = 2
"""The same for each of several servers, however many there are; they share :data:`CONNECT_SECONDS`."""

LONGEST_REPLICA_DELAY_SECONDS = 60
"""A `Distributed` table asks no replica that is further behind, and fails if there is no other. Zero would ask any."""

SILENCE_SECONDS = 60
"""A server that acknowledges nothing for so long has gone."""

CATALOG_SECONDS = 30
"""For an answer of a REST catalog or an object store. `plan` holds a row of the ledger meanwhile."""

STORE_ATTEMPTS = 8
"""How often ClickHouse asks an object store: some seconds if nothing listens there, four minutes if it is silent."""

LOCK_SECONDS = 60
"""For a row of the ledger that another run holds."""

STEP_ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 8.0
"""A step that failed for a reason that may pass is tried so often, with growing pauses: about ten seconds in all."""

OBSERVE_EVERY_SECONDS = 15
"""The services are not asked more often for metrics, however many ask for those."""

OBSERVE_QUERY_SECONDS = 10
"""For an answer of ClickHouse to a question of the metrics."""

SCRAPE_SECONDS = 8
"""So long a scrape waits for a look that is under way, before it gets what the last one has seen: less than the ten
seconds after which Prometheus gives up."""

STAGE_ATTEMPTS = 5
PUBLISH_ATTEMPTS = 5
"""How often the job stages, or publishes, again because another writer came between; then the task's retry does."""


PAGE_SECONDS = 15
"""How old what the page shows may be before the services are asked anew, and how long ClickHouse may be silent then."""

PAGE_PATIENCE_SECONDS = 2.5
"""How long a request waits for the very first answer; after that the page says that it is on its way."""

LOOK_REST = 3
"""A look at everything, for metrics or the page, is followed by a pause of so many times its own length: it takes a
quarter of the time at most."""


def pod_start_seconds(task_seconds: float) -> int:
    """How long a pod may wait for a node, and then again for its image, before the task says why it does not start.

    A cluster that adds a node for it needs minutes.
    """
    return min(300, int(task_seconds) // 4)


def layer_seconds(task_seconds: int) -> int:
    """How long a layer waits for the one below: longer than a task of it may take.

    By default less than the quarter of an hour after which the next cycle is due. Where cycles come sooner, those that
    begin meanwhile are left out: a layer has one run at a time.
    """
    return task_seconds + 4 * 60


def run_seconds(applications: int, task_seconds: int) -> int:
    """Airflow fails a run after that: its wait and all attempts of its tasks, each of which took as long as it may.

    :param applications: how many ``offload`` tasks it may have
    """
    all_attempts = task_seconds + TASK_RETRIES * (TASK_RETRY_SECONDS + task_seconds)
    return layer_seconds(task_seconds) + (2 + ceil(applications / PARALLEL_APPLICATIONS)) * all_attempts


def unchanged_seconds(task_seconds: int) -> int:
    """A run outside of the scheduler of which no task has changed for so long was left: no attempt takes longer."""
    return task_seconds + 60
