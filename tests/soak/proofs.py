"""Days are sealed and every seal is verified; partitions of some tables are forgotten because they are proven."""

from __future__ import annotations

from k2_offload.work.retention import remove_proven
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import verify_sealed
from tests.faults.hook import REMOVAL_POINTS, SEAL_POINTS, Fault, kinds_at
from tests.faults.tasks import run_task
from tests.soak.warm_tier import PROVEN


class Proofs:
    """What ``k2_reconcile`` and ``k2_maintenance`` do about seals and retention, with faults of their own.

    :param events: counts what happened
    :param proven: the tables with ``retention: proven``, by the source that holds their rows
    :param points: where a run that removes may die
    :ivar states: of all partitions that the last run that removes has looked at
    :ivar waiting: why partitions of tables with proven retention have not gone, as of the last look
    """

    def __init__(self, random, events, proven=PROVEN, points=REMOVAL_POINTS):
        self._random, self._events = random, events
        self._proven, self._points = proven, points
        self._states = {}
        self.states, self.waiting = [], {}

    def seal(self, cycle, file, fault_rate, *, verified=True):
        """Seal what is due, and prove that every sealed day holds what was sealed; returns what could not be sealed.

        :param verified: whether that is proven, which takes the longer the more days are sealed
        """
        tables = list(cycle.tables.by_name.values())
        if self._random.random() < fault_rate:
            names = [table.name for table in tables]
            self._fail("seal", SEAL_POINTS, self._random.choice(names), names, cycle, file)
        done = seal_days(cycle.tiers, tables)
        self._events["days sealed"] += len(done.seals)
        self._events["days sealed anew after a heal"] += sum(seal.before is not None for seal in done.seals)
        if verified:
            self.verify(cycle)
        return done.problems

    def verify(self, cycle):
        """Every seal, in the snapshots that readers see now; returns how many there are, by table."""
        found = [verify_sealed(cycle.tiers, table) for table in cycle.tables.by_name.values()]
        assert not [finding for each in found for finding in each.findings], found
        return {each.table: each.days for each in found}

    def remove(self, cycle, file, fault_rate):
        """Move away what is proven, and drop what was held long enough; returns what a person has to look at."""
        if self._random.random() < fault_rate:
            storage = self._random.choice(list(self._proven))
            self._fail("remove", self._points, f"k2.{storage}", self._proven[storage][:1], cycle, file)
        done = remove_proven(cycle.tiers, list(cycle.tables.by_name.values()))
        self.states = done.states
        self.waiting = {f"{each.storage} {each.days}": each.reason for each in done.states if each.state == "waits"}
        for each in done.states:
            key = each.storage, each.partition_id
            if self._states.get(key) != each.state:
                self._events[f"partition: {each.state}"] += 1
            self._states[key] = each.state
        return done.problems

    def _fail(self, task, points, where, names, cycle, file):
        point = self._random.choice(points)
        fault = Fault(point, self._random.choice(kinds_at(point)), where)
        if run_task(task, fault, file.text, names, cycle.tiers.now()) is not None:
            self._events[f"{task}: {fault.kind}"] += 1
