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

import requests
import uvicorn

RULES = Path(__file__).parents[2] / "docker/prometheus/k2_offload.yml"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST = "127.0.0.1"


def shorten(rules: str, divisor: int) -> str:
    """The same rules, for which less time has to pass: ``for``, ranges and offsets are divided, and no threshold."""

    def divided(found: re.Match[str]) -> str:
        milliseconds = max(int(found[2]) * _SECONDS[found[3]] * 1000 // divisor, 1000)
        return f"{found[1]}{milliseconds}ms"

    return re.sub(r"(\bfor: |\[|\boffset )(\d+)([smhd])\b", divided, rules)


class Prometheus:
    """One that runs; the alerts as its API has them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def firing(self) -> set[tuple[str, str]]:
        """Alerts that fire: their names, and the table or service they are of."""
        alerts = requests.get(f"{self._url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
        labels = [each["labels"] for each in alerts if each["state"] == "firing"]
        return {(each["alertname"], each.get("table", each.get("service", ""))) for each in labels}

    def seconds_until(self, alert: tuple[str, str], *, fires: bool, limit: float = 40) -> float:
        """Wait until an alert fires, or does not; returns for how long that took."""
        began = time.monotonic()
        while (alert in self.firing()) is not fires:
            assert time.monotonic() - began < limit, (alert, fires, self.firing())
            time.sleep(0.1)
        return time.monotonic() - began


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
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={_HOST}:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://{_HOST}:{port}"
        _wait_until_ready(url, process, folder / "prometheus.log")
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(30)
        server.should_exit = True
        thread.join(30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while True:
        try:
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - began < 30, log.read_text()
        time.sleep(0.1)
