"""A real Alertmanager with the project's file and the receivers that docs/production.md gives it."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import requests
import yaml

from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.stack.processes import wait_until
from tests.support import free_ports
from tests.support.collector import Collector
from tests.support.prometheus import alerts, shorten

FILE = ROOT / "docker/alertmanager/alertmanager.yml"
PAGE = (ROOT / "docs/production.md").read_text()
WAIT_SECONDS = 30
DIVISOR = 20
PAGES = {"critical": "/page", "warning": "/ticket"}


def with_receivers(url):
    """The file with the receivers of the page, which post to here; waits are shorter."""
    [example] = re.findall(r"^```yaml\n(receivers:\n  - name: page\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config = yaml.safe_load(shorten(FILE.read_text(), DIVISOR))
    known = [each["name"] for each in config["receivers"]]
    config["receivers"] = yaml.safe_load(example)["receivers"]
    assert [each["name"] for each in config["receivers"]] == known
    for each in config["receivers"]:
        [hook] = each["webhook_configs"]
        hook["url"] = f"{url}/{each['name']}"
    return config


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory):
    """Its address, and what collects its posts."""
    program = Layout.of(ROOT, DEFAULT_CLICKHOUSE_VERSION).alertmanager
    folder, [port] = tmp_path_factory.mktemp("alertmanager"), free_ports(1)
    with Collector() as collector:
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(with_receivers(collector.url)))
        command = [
            *(program, f"--config.file={file}", f"--storage.path={folder / 'data'}"),
            *("--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"),
        ]
        with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                assert wait_until(lambda: _is_ready(url), WAIT_SECONDS), (folder / "log").read_text()
                yield url, collector
            finally:
                process.terminate()


def _is_ready(url):
    try:
        return requests.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def fire(url, *labels, ends=False):
    """What Prometheus posts when alerts fire, or are over."""
    now = datetime.now(UTC)
    body = [{"labels": each, "startsAt": (now - timedelta(minutes=1)).isoformat()} for each in labels]
    for each in body:
        each["endsAt"] = (now if ends else now + timedelta(hours=1)).isoformat()
    requests.post(f"{url}/api/v2/alerts", json=body, timeout=10).raise_for_status()


def told(collector):
    """Of each notice: where it went, which alert of which table, and whether it fires."""
    return {
        (path, alert["labels"]["alertname"], alert["labels"]["table"], alert["status"])
        for path, _, body in collector.posted
        for alert in body["alerts"]
    }


def test_every_alert_reaches_the_receiver_of_its_severity_and_so_does_its_end(alertmanager):
    url, collector = alertmanager
    every = {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    labels = [{"alertname": name, "severity": severity, "table": name} for name, severity in every.items()]
    without_its_better = {"K2DiskAlmostFull"}  # tables differ here, and the disk is one for all
    expected = {(PAGES[of], name, name) for name, of in every.items() if name not in without_its_better}
    for state in ("firing", "resolved"):
        fire(url, *labels, ends=state == "resolved")
        wanted = {(*each, state) for each in expected}
        assert wait_until(lambda wanted=wanted: wanted <= told(collector), WAIT_SECONDS), wanted - told(collector)
    assert {path for path, name, _, _ in told(collector) if every[name] == "critical"} == {"/page"}


@pytest.mark.parametrize(("more", "less"), [("K2LagVeryHigh", "K2LagHigh"), ("K2RowsExpireNow", "K2RowsExpireSoon")])
def test_what_another_alert_of_the_table_says_too_is_not_sent(alertmanager, more, less):
    url, collector = alertmanager
    of_more = {"alertname": more, "severity": "critical", "table": "trades"}
    of_less = [{"alertname": less, "severity": "warning", "table": table} for table in ("trades", "candles")]
    fire(url, of_more)
    assert wait_until(lambda: ("/page", more, "trades", "firing") in told(collector), WAIT_SECONDS)
    fire(url, *of_less)
    assert wait_until(lambda: ("/ticket", less, "candles", "firing") in told(collector), WAIT_SECONDS)
    assert ("/ticket", less, "trades", "firing") not in told(collector)
