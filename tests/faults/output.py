"""What a running job prints, as it comes."""

from __future__ import annotations

import re
import subprocess
import threading
import time

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


class WarmOutput:
    """The same of a job in the application that is up; nothing else can be asked of that until the job has ended.

    :param request: what starts it; what it prints comes as events, and its exit code as the answer
    """

    def __init__(self, spark, *request):
        self.text = ""
        self._spark = spark
        self._code = None
        spark.send(*request)

    def wait_for(self, pattern, times=1, seconds=60):
        """Wait until so many lines hold a regular expression."""
        self._listen(lambda: len(re.findall(pattern, self.text)) >= times, seconds)
        assert len(re.findall(pattern, self.text)) >= times, f"not {times} times '{pattern}' in:\n{self.text}"

    def wait_for_end(self, seconds=60):
        """Returns ``(exit code, output)``."""
        self._listen(lambda: False, seconds)
        assert self._code is not None, f"The job has not ended after {seconds} s. So far it said:\n{self.text}"
        return self._code, self.text

    def _listen(self, is_enough, seconds):
        deadline = time.monotonic() + seconds
        while self._code is None and not is_enough() and (left := deadline - time.monotonic()) > 0:
            try:
                kind, value = self._spark.receive(left)
            except TimeoutError:
                return
            if kind == "event":
                self.text += value
            else:
                self._code = value
