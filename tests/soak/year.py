"""Nine tables that began at the front, what brings their history, and what goes on beside it."""

from __future__ import annotations

import subprocess
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, takewhile
from pathlib import Path
from random import Random

import psutil
import yaml

from embedded.feed.market import LATEST_MICROS, generate
from embedded.feed.sink import Sink, Target
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.plan import Plan
from k2_offload.core.skips import intersect
from k2_offload.core.tables import LAYERS
from k2_offload.core.windows import Window, to_micros
from k2_offload.work.backfill import find_left_out
from tests.soak.jobs import Jobs
from tests.soak.warm_tier import SOURCES, TRADES
from tests.support.cycles import build_cycle

DAY = timedelta(days=1)
MICROS_PER_DAY = DAY // timedelta(microseconds=1)
DAYS_OF_A_WINDOW = 15
CYCLE_SECONDS = 20
FEED_SECONDS = 0.5
LIVE_RATE = 10  # trades a second
LOOK_SECONDS = 2
ATTEMPTS = 3  # of a run or a window that nobody has killed, as Airflow has them
TABLES = Path(__file__).parents[2] / "include" / "tables.yaml"
KILLED = ("everything", "the command alone", "the job alone")


def table_file():
    """The nine tables as they are, but they begin at the front, and a row is moved as soon as its cycle comes."""
    document = yaml.safe_load(TABLES.read_text())
    late = LATEST_MICROS // 1_000_000
    document["defaults"] |= {"buffer_seconds": late + 1, "out_of_order_seconds": late + 1}
    for entry in document["tables"].values():
        entry["history"] = "backfill"
    return yaml.safe_dump(document, sort_keys=False)


class Trades:
    """What both exchanges have sent for a long time, and go on to send.

    :param resources: closes the connection
    """

    def __init__(self, stack, resources, seed):
        client = resources.enter_context(stack.clickhouse_client())
        for source in SOURCES:
            client.execute(f"ALTER TABLE {source} REMOVE TTL")
        port = stack.settings.ports.clickhouse_native
        self._sink = resources.enter_context(Sink(Target("127.0.0.1", port, "default", "k2")))
        self._seed = seed

    @property
    def count(self):
        return self._sink.trade_count

    def send_history(self, first, end, trades_per_day):
        """Day by day: an insert may have a hundred partitions at most."""
        endless = generate(self._seed, trades_per_day / DAY.total_seconds(), to_micros(first))
        messages = takewhile(lambda message: message.sent_micros < to_micros(end), endless)
        for _, of_day in groupby(messages, lambda message: message.sent_micros // MICROS_PER_DAY):
            self._sink.insert(list(of_day))

    def send_live(self, ended):
        """At the pace of the clock, until the end."""
        messages = generate(self._seed + 1, LIVE_RATE, to_micros(datetime.now(UTC)))
        held = next(messages)
        while not ended.wait(FEED_SECONDS):
            now, batch = to_micros(datetime.now(UTC)), []
            while held.sent_micros <= now:
                batch.append(held)
                held = next(messages)
            self._sink.insert(batch)


@dataclass(frozen=True)
class Cycles:
    """How some cycles went.

    :param seconds: of each cycle
    :param lags: of each table, once a second
    """

    seconds: list[float]
    lags: dict[str, list[float]]


class LiveCycle:
    """Plan, job and commit of all nine tables, every so many seconds; the job stays up between them."""

    def __init__(self, resources, text, log):
        self._cycle = build_cycle(resources, None, text, "year")
        self._cycle.ledger.migrate()
        self._jobs = Jobs(log)
        resources.callback(self._jobs.close)
        self._watermarks = defaultdict(list)
        self._cycles = []
        self.again = 0

    def go_on(self, ended):
        """One cycle after the other, until the end."""
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due += CYCLE_SECONDS
            began = time.time()
            move_all(self._cycle, self._run, self._note)
            self._cycles.append((began, time.time() - began))

    def _run(self, plan):
        """With retries, as Airflow's."""
        for _ in range(ATTEMPTS):
            if self._jobs.run(plan):
                return
            self.again += 1
        raise AssertionError("a live window failed three times: see the jobs' log")

    def finish(self, resources, text):
        """Everything is over, also the candles of today: move what there is."""
        later = datetime.now(UTC) + 3 * DAY
        cycle = build_cycle(resources, lambda: later, text, "year")
        while move_all(cycle, self._run):
            pass
        return cycle

    def _note(self, table, watermark):
        self._watermarks[table].append((time.time(), watermark))

    def between(self, begin, end):
        """How the cycles that began in a stretch of time went."""
        seconds = [took for began, took in self._cycles if begin <= began < end]
        return Cycles(seconds, {name: self._lags(name, begin, end) for name in TRADES})

    def _lags(self, name, begin, end):
        """The time since the watermark: what the lag is while the feed sends without a pause, or a little more."""
        published, watermarks = zip(*self._watermarks[name], strict=True)
        moments = [begin + second for second in range(int(end - begin))]
        known = [(moment, bisect_right(published, moment) - 1) for moment in moments]
        return [moment - watermarks[index].timestamp() for moment, index in known if index >= 0]


def move_all(cycle, run, note=lambda *_: None):
    """One cycle; returns whether anything was moved."""
    moved = False
    for layer in LAYERS:
        tables = cycle.tables.in_layer(layer)
        planned = [entry for table in tables if (entry := cycle.plan(table)) is not None]
        if planned:
            run(Plan("year", tuple(planned)).to_json())
            moved = True
        for table in tables:
            note(table.name, cycle.commit(table))
    return moved


class Backfills:
    """``k2 backfill`` of one table after the other, in processes of their own, some of which are killed.

    :param environment: of the processes
    :param kills: how many there are to be
    :param first: since when there are trades
    :param say: shows what happens
    :ivar done: what became of the processes
    """

    def __init__(self, cycle, environment, random: Random, kills, first, log, say):
        self._cycle, self._environment, self._random = cycle, environment, random
        self._first, self._log, self._say = first, log, say
        self._shares = sorted(random.uniform(0, 0.95) for _ in range(kills))
        self.done = Counter()

    def bring(self, ended):
        """All that is left out of every table, in any order."""
        names = list(self._cycle.tables.by_name)
        self._random.shuffle(names)
        for number, name in enumerate(names):
            began = time.monotonic()
            self._bring(name, number / len(names), 1 / len(names), ended)
            self._say(f"{name} brought in {time.monotonic() - began:.0f} s")

    def _bring(self, name, share_before, share, ended):
        table = self._cycle.tables[name]
        found = find_left_out(self._cycle.tiers, table)
        whole = sum((each.high - max(each.low, self._first)).total_seconds() for each in found.ranges)
        windows = max(2, (datetime.now(UTC) - self._first) // (DAYS_OF_A_WINDOW * DAY))
        command = ["k2", "backfill", name, "--max-rows", str(max(1, found.rows // windows))]
        red = 0
        while True:
            assert not ended.is_set(), "the live cycle has ended"
            with subprocess.Popen(
                command, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT, text=True
            ) as process:
                killed = self._watch(process, lambda: share_before + share * (1 - self._left(table) / whole), ended)
            if killed:
                self.done[f"killed: {killed}"] += 1
                continue
            if process.returncode == 0:
                self.done["ended well"] += 1
                return
            red += 1
            self.done["red"] += 1
            self._say(f"k2 backfill {name} ended with exit code {process.returncode}, and nobody killed it")
            assert red < ATTEMPTS, f"k2 backfill {name} is red again and again: see its log"

    def _watch(self, process, brought, ended):
        """Wait until it ends, or kill it when as much has been brought as was drawn; returns what was killed."""
        while process.poll() is None:
            if ended.is_set():
                kill(process, "everything")
                return None
            if self._shares and brought() >= self._shares[0]:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self._random.uniform(0, 12))
                    return None
                killed = kill(process, self._random.choice(KILLED))
                self._shares.pop(0)
                self._say(f"killed {killed} at {brought():.0%}")
                process.wait()
                return killed
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
        return None

    def _left(self, table):
        """Seconds of its history."""
        cold = self._cycle.tiers.load_cold(table)
        left = intersect(cold.skips.left_out, Window(self._first, watermark_of(cold.published)))
        return sum((each.high - each.low).total_seconds() for each in left)

    def check_nothing_left(self):
        """Nothing is left out of any table, and the command says so."""
        for name, table in self._cycle.tables.by_name.items():
            assert find_left_out(self._cycle.tiers, table).ranges == (), name
            said = subprocess.run(
                ["k2", "backfill", name], env=self._environment, capture_output=True, text=True, check=True
            ).stdout
            assert "nothing is left out in that range. There is nothing to bring." in " ".join(said.split()), said


def kill(process, what):
    """With SIGKILL; the job alone can only be killed where one is at work. Returns what was killed."""
    command = psutil.Process(process.pid)
    children = command.children(recursive=True)
    jobs = [each for each in children if _name(each) == "java"]
    if what == "the job alone" and not jobs:
        what = "everything"
    victims = {"everything": [command, *children], "the command alone": [command], "the job alone": jobs}[what]
    for each in victims:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    return what


def _name(process):
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def percentile(values, share):
    """The value that so large a share of all values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
