"""What a running job prints, as it comes."""

from __future__ import annotations

import re
import subprocess
import threading

import pytest


class Output:
    """A running job's lines, read as they come."""

    def __init__(self, process):
        self.process = process
        self.text = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.text += line
                    self._news.notify_all()

    def wait_for(self, pattern, times=1, seconds=60):
        """Wait until so many lines hold a regular expression."""
        with self._news:
            found = self._news.wait_for(lambda: len(re.findall(pattern, self.text)) >= times, seconds)
            assert found, f"not {times} times '{pattern}' in:\n{self.text}"

    def wait_for_end(self, seconds=60):
        """Returns ``(exit code, output)``."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"The job has not ended after {seconds} s. So far it said:\n{self.text}")
        self._reader.join(timeout=seconds)
        return code, self.text
