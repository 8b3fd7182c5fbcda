"""A Prometheus of a test's own, which scrapes an app of this process with the project's alerts, made fast."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
import yaml

from embedded.install.prometheus import MISSING, find

RULES = Path(__file__).parents[2] / "docker/prometheus/k2_offload.yml"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST = "127.0.0.1"


def alerts() -> dict[str, dict[str, Any]]:
    """The rules of all alerts, by name."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def program(name: str) -> str:
    """The path of one of Prometheus' and Alertmanager's tools; the test fails with the command that installs them."""
    found = find(name)
    if found is None:
        pytest.fail(MISSING, pytrace=False)
    return found


def shorten(rules: str, divisor: int) -> str:
    """The same rules, for which less time has to pass: ``for``, ranges, offsets, intervals and Alertmanager's waits.

    :param rules: a file of Prometheus or Alertmanager
    """

    def divided(found: re.Match[str]) -> str:
        milliseconds = max(int(found[2]) * _SECONDS[found[3]] * 1000 // divisor, 1000)
        return f"{found[1]}{milliseconds}ms"

    return re.sub(r"(\bfor: |\binterval: |\bgroup_\w+: |\[|\boffset )(\d+)([smhd])\b", divided, rules)


class Prometheus:
    """One that runs; the alerts as its API has them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def firing(self) -> set[tuple[str, str]]:
        """Alerts that fire: their names, and the table, DAG or service they are of."""
        labels = [each["labels"] for each in self._data("alerts")["alerts"] if each["state"] == "firing"]
        subjects = ("table", "dag", "service")
        return {(each["alertname"], next((each[name] for name in subjects if name in each), "")) for each in labels}

    def is_answered(self) -> bool:
        """Whether it runs, and its last scrape was answered."""
        try:
            return any(target["health"] == "up" for target in self._data("targets")["activeTargets"])
        except (requests.ConnectionError, requests.HTTPError):
            return False

    def scrape_error(self) -> str:
        """What its page of targets shows."""
        [target] = self._data("targets")["activeTargets"]
        return target["lastError"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        return self._data("query", query=expression)["result"]

    def seconds_until(self, alert: str, of: str, *, fires: bool, limit: float = 120) -> float:
        """Wait until an alert fires, or does not; returns for how long that took."""
        began = time.monotonic()
        while ((alert, of) in (firing := self.firing())) is not fires:
            expected = "did not fire" if fires else "did not clear"
            assert time.monotonic() - began < limit, f"{alert} of {of or 'all'} {expected} in {limit} s; {firing}"
            time.sleep(0.1)
        return time.monotonic() - began

    def _data(self, what: str, **parameters: str) -> Any:
        answer = requests.get(f"{self._url}/api/v1/{what}", parameters, timeout=10)
        answer.raise_for_status()
        return answer.json()["data"]


@contextmanager
def running_prometheus(app: Any, token: str, folder: Path, ports: list[int], divisor: int) -> Iterator[Prometheus]:
    """Serve the app and let Prometheus scrape it every second.

    :param ports: two free ones
    :param divisor: by which all durations of the rules are divided
    """
    app_port, port = ports
    (folder / "rules.yml").write_text(shorten(RULES.read_text(), divisor))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "k2_offload",
                "authorization": {"credentials": token},
                "static_configs": [{"targets": [f"{_HOST}:{app_port}"]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    server = uvicorn.Server(uvicorn.Config(app, _HOST, app_port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={_HOST}:{port}",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        prometheus = Prometheus(f"http://{_HOST}:{port}")
        _wait_until_ready(prometheus, process, log)
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)
        server.should_exit = True
        thread.join(30)


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it has an answer of the app: before that, it has no metrics."""
    began = time.monotonic()
    while not prometheus.is_answered():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - began < 60, log.read_text()
        time.sleep(0.1)
    prometheus.seconds_until("K2MetricsDown", "", fires=False)
