"""The harness's side of the job server: start it, ask it to move a plan, kill it, leave it behind as a zombie."""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from multiprocessing.connection import Listener
from pathlib import Path

from tests.faults.hook import Kind
from tests.faults.submit import submit

_APPLICATION = Path(__file__).with_name("job_server.py")
_SECONDS = 180


class JobServer:
    """One process; ended by closing it."""

    def __init__(self, log):
        key = secrets.token_bytes(16)
        self._folder = tempfile.TemporaryDirectory(prefix="k2-soak-")
        address = str(Path(self._folder.name) / "socket")
        self.wake_file = Path(self._folder.name) / "wake"
        with Listener(address, "AF_UNIX", authkey=key) as listener:
            variables = {"K2_SOAK_SOCKET": address, "K2_SOAK_KEY": key.hex()}
            self._process = submit(_APPLICATION, variables=variables, stdout=log)
            self._connection = listener.accept()

    def send(self, plan, faults, copies):
        request = {"plan": plan, "faults": [fault.to_json() for fault in faults], "copies": copies}
        self._connection.send({**request, "wake_file": str(self.wake_file)})

    def next_event(self):
        """``("fault", kind)``, ``("done", success)``, or ``("died", None)``."""
        try:
            assert self._connection.poll(_SECONDS), "the job neither ended nor died"
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            return "died", None

    def close(self):
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Jobs:
    """Runs plans one after the other, and keeps count of the faults.

    :param log: where the jobs' output goes
    """

    def __init__(self, log):
        self._log = log
        self._server = JobServer(log)
        self._zombies = []
        self.faults = Counter()

    def run(self, plan, faults=(), copies=1):
        """Whether everything in the plan is published now; a process that hangs is killed, as Airflow would."""
        self._server.send(plan, faults, copies)
        while True:
            event, detail = self._server.next_event()
            if event == "done":
                return detail
            if event == "fault":
                self.faults[detail] += 1
            if detail == Kind.WAIT:
                self._zombies.append(self._server)
            elif detail == Kind.HANG or event == "died":
                self._server.close()
            else:
                continue
            self._server = JobServer(self._log)
            return False

    def wake_zombies(self):
        """Let what was left behind go on to its end."""
        for zombie in self._zombies:
            zombie.wake_file.touch()
            while zombie.next_event()[0] == "fault":
                pass
            zombie.close()
        self._zombies.clear()

    @property
    def has_zombies(self):
        return bool(self._zombies)

    def close(self):
        for server in (*self._zombies, self._server):
            server.close()
