"""What becomes of a commit whose reply is lost, of one that comes too late, and of one that fails."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.core.errors import OffloadError, Unreachable
from offload_job import backfill, move
from tests.model.actors import Fate
from tests.model.iceberg import JavaError
from tests.model.world import LONG, World

# Greenlets, whose calls a tracer mixes up; and what they run is run by other tests as well.
pytestmark = pytest.mark.no_cover

TABLE, MINUTE = "bronze_a", timedelta(minutes=1)


class Publishing:
    """A table, and a job that is to publish something more to it."""

    def __init__(self):
        self.world = World(LONG)
        self.trade()
        self.world.begin("bronze").proceed()
        self.trade()
        self._commit, self._problems = self.world.lakehouse.commit, []
        self.world.lakehouse.commit = self._commit_or_fail

    def trade(self):
        for _ in range(6):
            self.world.now += MINUTE
            self.world.trade(TABLE, self.world.now)
        self.world.now += 7 * MINUTE

    def _commit_or_fail(self, *about, **change):
        if self._problems:
            raise self._problems.pop()
        self._commit(*about, **change)

    def begin_window(self):
        self.job = self.world.begin("bronze")

    def begin_backfill(self):
        self.world.begin_skip(TABLE, 7 * MINUTE).proceed()
        self.trade()
        self.world.begin("bronze").proceed()
        self.job = self.world.begin_backfill(TABLE)

    def lose_the_reply(self):
        self.job.go(Fate.LOSE_REPLY)

    def move_main_on(self):
        self.world.lakehouse.compact(f"cold.{TABLE}")

    def take_the_catalog_away(self):
        """For one commit."""
        self._problems.append(JavaError("UncheckedSQLException", "connection refused"))


@pytest.mark.parametrize(
    ("meanwhile", "outcomes"),
    [
        (Publishing.lose_the_reply, [True]),
        (Publishing.move_main_on, [False, True]),
        (Publishing.take_the_catalog_away, [Unreachable, True]),
    ],
)
@pytest.mark.parametrize(
    ("begin", "module", "publish", "commit"),
    [
        (Publishing.begin_window, move, "publish_window", "fast-forward"),
        (Publishing.begin_backfill, backfill, "publish_between", "swap"),
    ],
    ids=["window", "backfill"],
)
def test_a_commit_that_fails_is_there_all_the_same_or_comes_again(
    monkeypatch, begin, module, publish, commit, meanwhile, outcomes
):
    publishing, seen, real = Publishing(), [], getattr(module, publish)

    def noted(*about):
        try:
            seen.append(real(*about))
        except OffloadError as error:
            seen.append(type(error))
            raise
        return seen[-1]

    begin(publishing)
    monkeypatch.setattr(module, publish, noted)
    publishing.job.proceed((commit,))
    assert (publishing.job.next_io, seen) == (commit, [])
    meanwhile(publishing)
    publishing.job.proceed()
    assert seen == outcomes
    assert publishing.world.skips(TABLE).left_out == ()
    publishing.world.check()
