"""However many ask, the services are asked once at a time, and not more often than the limit says."""

from __future__ import annotations

import threading

import pytest

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.limits import PAGE_SECONDS
from k2_offload.web.shared import Shared


class Reads:
    """Counts looks; each ends when :meth:`finish` runs it, as a thread would."""

    def __init__(self):
        self.now, self.count, self.waiting, self.error, self.takes = 100.0, 0, [], None, 0.0
        self.shared = Shared(self.read, clock=lambda: self.now, start=self.waiting.append)

    def read(self):
        self.count += 1
        self.now += self.takes
        if self.error:
            raise self.error
        return self.count

    def finish(self):
        self.waiting.pop()()

    def look(self):
        return self.shared.look(patience_seconds=0)


def test_one_look_serves_all_until_it_is_old():
    reads = Reads()
    assert reads.look().value is None
    assert reads.look().value is None
    assert len(reads.waiting) == 1, "one look at a time"
    reads.finish()
    reads.now += PAGE_SECONDS - 1
    assert [reads.look().value for _ in range(9)] == [1] * 9
    assert not reads.waiting
    reads.now += 1
    assert reads.look().value == 1, "the old answer at once"
    reads.finish()
    assert reads.look().value == 2


def test_a_look_that_hangs_is_not_begun_again_and_says_for_how_long():
    reads = Reads()
    reads.look()
    reads.finish()
    reads.now += PAGE_SECONDS
    reads.look()
    reads.now += 500
    seen = reads.look()
    assert (seen.value, seen.pending_seconds, seen.age_seconds) == (1, 500, 500 + PAGE_SECONDS)
    assert len(reads.waiting) == 1


def test_a_look_that_takes_as_long_as_the_one_before_is_not_stuck():
    reads = Reads()
    reads.look()
    assert not reads.look().is_stuck
    reads.now += 95
    assert reads.look().is_stuck, "nothing is known of how long a look takes"
    reads.takes = 95
    reads.finish()
    assert (reads.look().last_seconds, reads.look().is_stuck) == (95, False)
    reads.now += 3 * 95
    reads.look()
    for seconds, stuck in ((2 * 95, False), (1, True)):
        reads.now += seconds
        assert reads.look().is_stuck is stuck
    quick = Reads()
    quick.look()
    quick.finish()
    quick.now += PAGE_SECONDS
    quick.look()
    for seconds, stuck in ((2 * PAGE_SECONDS, False), (1, True)):
        quick.now += seconds
        assert quick.look().is_stuck is stuck


@pytest.mark.parametrize(
    ("error", "words"),
    [(ConfigurationError("connection missing"), "connection missing"), (KeyError("x"), "unexpected")],
)
def test_a_look_that_fails_keeps_what_was_known_and_is_tried_again(error, words, caplog):
    reads = Reads()
    reads.look()
    reads.finish()
    reads.error, reads.now = error, reads.now + PAGE_SECONDS
    reads.look()
    reads.finish()
    seen = reads.look()
    assert seen.value == 1
    assert words in seen.problem
    assert ("KeyError" in caplog.text) is isinstance(error, KeyError)
    reads.error, reads.now = None, reads.now + PAGE_SECONDS
    reads.look()
    reads.finish()
    assert (reads.look().value, reads.look().problem) == (3, None)


def test_the_first_request_waits_for_the_first_look_as_long_as_its_patience():
    begun, released = threading.Event(), threading.Event()

    def read():
        begun.set()
        return released.wait()

    shared = Shared(read)
    assert shared.look(patience_seconds=0.01).value is None
    begun.wait()
    released.set()
    assert shared.look(patience_seconds=60).value is True
