"""Metrics, alerts, runbooks and the dashboard speak of the same things, and of what exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_offload.core.failure_kinds import FAILURE_KINDS
from k2_offload.core.maintenance import MAX_METADATA_BYTES, MAX_SNAPSHOTS
from k2_offload.core.metrics import METRICS
from tests.support import runbooks
from tests.support.pages import DOCS, section_of, table_of
from tests.support.prometheus import RULES as RULES_FILE
from tests.support.prometheus import program, shorten
from tests.unit.docker.compose import mounted_files
from tests.unit.test_docs import anchors, command_line, k2_commands

ROOT = Path(__file__).parents[2]
PAGE = (DOCS / "metrics.md").read_text()
RULES = yaml.safe_load((ROOT / "docker/prometheus/k2_offload.yml").read_text())
ALL_RULES: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/k2_offload.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
SCENARIOS = [page for page in RUNBOOKS if page.stem not in ("README", "results")]
NO_METRICS = {"k2_offload", "k2_reconcile", "k2_maintenance", "k2_report", "k2_published", "k2_seals"}
PLACEHOLDERS = {"TABLE": "silver_trades", "DAY": "2026-03-01"}


def exported() -> dict[str, set[str]]:
    """Every series that a query may name, with its labels."""
    series = {metric.name: set(metric.labels) for metric in METRICS}
    for rule in ALL_RULES:
        if "record" in rule:
            series[rule["record"]] = labels_of(rule["expr"], series)
    return series


def labels_of(query: str, series: dict[str, set[str]]) -> set[str]:
    """The labels that all series of a query have; each name in it is checked."""
    names = re.findall(r"\bk2[_:][\w:]+", re.sub(r'"[^"]*"', '""', query))
    assert names, query
    for name in names:
        assert name in series, f"{name}: {query}"
    return set.intersection(*(series[name] for name in names))


def check_query(query: str, *, known: frozenset[str] = frozenset()) -> None:
    """Series, and the labels that they are chosen and grouped by, exist.

    :param known: other labels that results may have
    """
    series = exported()
    labels_of(query, series)
    for name, matchers in re.findall(r"\b(k2[_:][\w:]+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= series[name], query
    every = set().union(*(series[name] for name in re.findall(r"\bk2[_:][\w:]+", query) if name in series)) | known
    for grouped in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", query):
        assert set(re.findall(r"\w+", grouped)) <= every, query


def test_every_metric_is_documented_as_it_is() -> None:
    documented = table_of(PAGE, "All metrics")
    assert documented == {
        f"`{metric.name}`": {
            "type": str(metric.kind),
            "labels": ", ".join(f"`{label}`" for label in metric.labels) or "none",
            "meaning": metric.help,
        }
        for metric in METRICS
    }


def test_every_kind_of_failure_is_documented_and_has_a_place_in_its_runbook() -> None:
    assert set(table_of(PAGE, "Kinds of failures")) == {f"`{kind}`" for kind in FAILURE_KINDS}
    section = section_of((DOCS / "runbooks/offload-failure.md").read_text(), "A table does not move")
    assert {kind for kind in FAILURE_KINDS if f"`{kind}`" not in section} == set()


def test_queries_of_the_documentation_ask_for_what_is_there() -> None:
    [block] = re.findall(r"^```promql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        check_query(line.partition("#")[0])
    for page in RUNBOOKS:
        named = set(re.findall(r"\bk2[_:][\w:]+", page.read_text())) - NO_METRICS
        assert named <= set(exported()), page


def test_a_query_that_names_what_is_not_there_is_found() -> None:
    for query in ("k2_lag", 'k2_lag_seconds{dag="x"} > 1', "sum by (phase) (k2_lag_seconds)"):
        with pytest.raises(AssertionError):
            check_query(query)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_and_labels_that_are_exported(rule: dict[str, Any]) -> None:
    check_query(rule["expr"], known=frozenset({"instance", "pod"}))  # which Prometheus itself gives
    labels = labels_of(rule["expr"], exported())
    used = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations"))))
    assert used <= labels


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["labels"]["severity"] in {"warning", "critical"}
    path, _, anchor = alert["annotations"]["runbook"].partition("#")
    page = ROOT / path
    assert page in RUNBOOKS
    assert anchor in anchors(page)
    [section] = [
        part for part in re.split(r"^## ", page.read_text(), flags=re.MULTILINE) if title_anchor(part) == anchor
    ]
    assert f"`{name}`" in section.partition("**Check**")[0]


def title_anchor(section: str) -> str:
    return re.sub(r"[^\w\- ]", "", section.partition("\n")[0].lower()).replace(" ", "-")


def test_alerts_are_many_and_the_page_lists_them_all() -> None:
    assert len(ALERTS) >= 9
    listed = table_of((DOCS / "runbooks/README.md").read_text().replace("# Runbooks", "## Runbooks"), "Runbooks")
    assert {name: (row["severity"], re.search(r"\((.*)\)", row["section"])[1]) for name, row in listed.items()} == {
        f"`{name}`": (alert["labels"]["severity"], alert["annotations"]["runbook"].removeprefix("docs/runbooks/"))
        for name, alert in ALERTS.items()
    }


def test_limits_that_the_code_has_too_are_the_same() -> None:
    assert f"> {MAX_METADATA_BYTES}" in ALERTS["K2MetadataGrows"]["expr"]
    described = ALERTS["K2MaintenanceOverdue"]["annotations"]["description"]
    assert f"{MAX_SNAPSHOTS:,} snapshots" in described
    assert f"{MAX_METADATA_BYTES // 2**20} MiB" in described


@pytest.mark.parametrize("page", SCENARIOS, ids=lambda page: page.stem)
def test_a_runbook_says_how_it_shows_what_to_check_how_to_mend_it_and_when_it_is_over(page: Path) -> None:
    _, *sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    assert len(sections) >= 3
    for section in sections:
        steps = re.findall(r"^(?:\*\*(Shows as|Check|Fix|Verify)\*\*|(No alert):)", section, re.MULTILINE)
        assert ["".join(step) for step in steps][1:] == ["Check", "Fix", "Verify"], section


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_commands_of_a_runbook_can_be_run_as_they_stand(page: Path) -> None:
    for line in k2_commands(page.read_text()):
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
        command = command_line()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)


def test_each_scenario_goes_by_a_section_of_the_runbooks() -> None:
    folder = ROOT / "tests/stack/k2_offload/runbooks"
    tests = "\n".join(file.read_text() for file in sorted(folder.rglob("test_*.py")))
    ran = re.findall(r"def test_\w+\(runbook.*\):\n    scenario = runbook\(\"([^\"]+)\"", tests)
    assert len(ran) == tests.count("runbook(") == len(re.findall(r"^def test_", tests, re.MULTILINE)) >= 23
    assert set(ran) <= set(runbooks.sections())
    [line] = re.findall(
        r"^No scenario goes through: (.*(?:\n.+)*)", (DOCS / "runbooks/README.md").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"\]\(([^)]+)\)", line)) == set(runbooks.sections()) - set(ran)


def test_durations_of_rules_are_shortened_and_thresholds_are_not() -> None:
    rules = yaml.safe_load(shorten(RULES_FILE.read_text(), 300))
    by_name = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert by_name["K2RowsExpireSoon"]["for"] == "1000ms"
    assert by_name["K2RowsExpireSoon"]["expr"] == ALERTS["K2RowsExpireSoon"]["expr"]
    assert by_name["K2RowsMissed"]["expr"] == "k2:gaps:max - last_over_time(k2:gaps:max[4320000ms] offset 12000ms) > 0"
    assert "offset 48000ms" in by_name["K2ComparisonOverdue"]["expr"]


def test_what_reads_the_samples_of_days_is_not_asked_at_every_scrape() -> None:
    for group in RULES["groups"]:
        days = [int(found) for rule in group["rules"] for found in re.findall(r"\[(\d+)d\]", rule["expr"])]
        assert max(days, default=0) <= 1 or group["interval"] == "5m", group["name"]


def test_each_alert_fires_when_it_should_and_none_in_normal_operation() -> None:
    cases = ROOT / "tests/data/alerts.yml"
    tested = set(re.findall(r'alertname="(K2\w+)"', cases.read_text()))
    assert tested == set(ALERTS)
    others = [ROOT / "tests/data" / name for name in ("outages.yml", "services.yml")]
    command = [program("promtool"), "test", "rules", cases, *others]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_alertmanager_sends_each_alert_to_the_receiver_of_its_severity(severity: str) -> None:
    file = ROOT / "docker/alertmanager/alertmanager.yml"
    checked = subprocess.run([program("amtool"), "check-config", file], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    severities = {alert["labels"]["severity"] for alert in ALERTS.values()}
    assert severities == {"critical", "warning"}
    command = [program("amtool"), "config", "routes", "test", f"--config.file={file}", f"severity={severity}"]
    routed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert routed == {"critical": "page", "warning": "ticket"}[severity]


def test_alertmanager_silences_only_alerts_that_there_are() -> None:
    config = yaml.safe_load((ROOT / "docker/alertmanager/alertmanager.yml").read_text())
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert matcher.removeprefix("alertname = ") in ALERTS
    assert {each["name"] for each in config["receivers"]} == {"page", "ticket"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_metrics_and_labels_that_are_exported(panel: dict[str, Any]) -> None:
    assert panel["type"] == "alertlist" or panel["targets"]
    for target in panel.get("targets", []):
        query = target["expr"].replace("$table", "a_table")
        check_query(query)
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            names = re.findall(r"\bk2[_:][\w:]+", query)
            assert any(label in exported()[name] for name in names), (query, label)


def test_the_dashboard_asks_the_data_sources_that_are_provisioned_and_panels_do_not_overlap() -> None:
    provisioned = yaml.safe_load((ROOT / "docker/grafana/datasources/k2.yaml").read_text())["datasources"]
    known = {(source["type"], source["uid"]) for source in provisioned}
    asked = [panel["datasource"] for panel in PANELS]
    asked += [target["datasource"] for panel in PANELS for target in panel.get("targets", [])]
    asked += [variable["datasource"] for variable in DASHBOARD["templating"]["list"]]
    assert {(source["type"], source["uid"]) for source in asked} <= known
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    [variable] = DASHBOARD["templating"]["list"]
    check_query(variable["query"]["query"])


def test_grafana_finds_the_dashboard_where_it_looks() -> None:
    provider = yaml.safe_load((ROOT / "docker/grafana/dashboards/k2.yaml").read_text())
    [path] = [each["options"]["path"] for each in provider["providers"]]
    mounts = mounted_files("grafana")
    assert mounts[f"{path}/k2_offload.json"] == ROOT / "docker/grafana/dashboards/k2_offload.json"
    assert mounts["/etc/grafana/provisioning/dashboards/k2.yaml"] == ROOT / "docker/grafana/dashboards/k2.yaml"
