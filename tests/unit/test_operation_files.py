"""The files that operators take from ops/examples, and the runbook, fit the code: each name that they use exists, and each that
must be there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.statuses import CLUSTER, JOURNAL, KEEPER, SINKS, endpoint, reading, supervisor
from wsadapter.contract import items, reasons
from wsadapter.exporter.metrics import METRICS, Exposition

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "ops/examples"
RUNBOOK = (ROOT / "ops/docs/RUNBOOK.md").read_text("utf-8")
ALERTS = (EXAMPLES / "alerts.yaml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "dashboard.json").read_text("utf-8"))
ALERT_NAMES = re.findall(r"- alert: (\w+)", ALERTS)
NEEDS_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian: prometheus)")


def names(text: str) -> set[str]:
    """The metrics that an expression uses."""
    return set(re.findall(r"wsadapter_\w+", text))


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_alerts_use_only_metrics_that_exist() -> None:
    used = names(ALERTS)
    assert len(used) >= 10
    assert used <= METRICS.keys()
    assert names((EXAMPLES / "alerts.test.yaml").read_text("utf-8")) <= METRICS.keys()


def test_the_dashboard_uses_only_metrics_and_labels_that_exist() -> None:
    used = {name for expression in expressions() for name in names(expression)}
    assert len(used) >= 12
    assert names(json.dumps(DASHBOARD)) <= METRICS.keys()  # also in the query of a variable
    for expression in expressions():
        for name, matchers in re.findall(r"(wsadapter_\w+)\{([^}]*)\}", expression):
            labels = {matcher.split("=")[0].strip(" !~") for matcher in matchers.split(",")}
            assert labels <= {"instance", *METRICS[name].labels}, expression


def test_each_panel_has_a_title_of_its_own_and_a_place_of_its_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (p["gridPos"]["x"] + x, p["gridPos"]["y"] + y)
        for p in panels
        for x in range(p["gridPos"]["w"])
        for y in range(p["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


@pytest.mark.parametrize("alert", ALERT_NAMES)
def test_each_alert_has_a_test_that_raises_it_and_one_that_does_not(alert: str) -> None:
    tests = (EXAMPLES / "alerts.test.yaml").read_text("utf-8").split("  - interval: ")
    own = [test for test in tests if f"alertname: {alert}\n" in test]
    assert [("exp_alerts: []" in test) for test in own] == [False, True]
    assert f'runbook: "wsadapter docs runbook, heading {alert}"' in ALERTS


@pytest.mark.slow
@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml"), ("check", "config", "prometheus.yaml")]
)
def test_prometheus_accepts_them(words: tuple[str, ...]) -> None:
    checked = subprocess.run(["promtool", *words], cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@NEEDS_PROMTOOL
def test_prometheus_accepts_a_scrape_and_has_nothing_to_complain_of() -> None:
    text = Exposition().text(
        reading(
            supervisor(
                {"a": endpoint(live=1, members=[{"pid": 4711}])}, journal=JOURNAL, sinks=SINKS, cluster=CLUSTER, keeper=KEEPER
            )
        ),
        100.5,
        "",
    )[0]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def headings(section: str) -> list[str]:
    """Of a section of the runbook: the names of its headings."""
    own = RUNBOOK.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [re.match(r"`?(\w+)", heading)[1] for heading in re.findall(r"^### (.+)$", own, re.MULTILINE)]  # type: ignore[index]


@pytest.mark.parametrize(
    ("section", "known"),
    [
        ("Events", list(items.EVENT_NAMES.values())),
        ("Reasons of a `down`", list(reasons.KINDS)),
        ("Causes of a `gap`", list(items.GAP_CAUSES)),
        ("Causes of a `dropped`", list(items.DROP_CAUSES)),
        ("Alerts", ALERT_NAMES),
    ],
)
def test_the_runbook_has_one_heading_for_each(section: str, known: list[str]) -> None:
    assert sorted(headings(section)) == sorted(known)


def test_below_each_heading_stands_what_it_means_and_what_to_do() -> None:
    parts = RUNBOOK.split("\n### ")[1:]
    assert len(parts) >= 60
    for part in parts:
        text = part.split("\n## ")[0]
        assert "**Meaning:** " in text, part[:40]
        assert "**Do:** " in text, part[:40]


def test_settings_and_metrics_that_the_runbook_names_exist() -> None:
    reference = (ROOT / "ops/docs/REFERENCE.md").read_text("utf-8")
    sections = "watchdog|buffer|limits|restart|heartbeat|timeouts|request"
    for setting in set(re.findall(rf"`((?:{sections})\.\w+)(?: =[^`]*)?`", RUNBOOK)):
        assert f"`endpoints.*.{setting}`" in reference, setting
    assert names(RUNBOOK) <= METRICS.keys()
