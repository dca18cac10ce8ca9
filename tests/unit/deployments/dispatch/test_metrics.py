"""The dashboard and the alerts use only metrics that exist."""

import json
import re
from typing import Any

import yaml

from tests.service import ROOT

_KINDS = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


def known() -> set[str]:
    """Returns the names under which Ray exposes the declared metrics."""
    source = "".join(path.read_text() for path in (ROOT / "deployments").rglob("metrics.py"))
    found = re.findall(r'(Counter|Gauge|Histogram)\("(wan22_\w+)"', source)
    assert found
    return {f"ray_{name}{ending}" for kind, name in found for ending in _KINDS[kind]}


def asked(expression: str) -> set[str]:
    return set(re.findall(r"ray_wan22_\w+", expression))


def test_each_panel_uses_existing_metrics() -> None:
    dashboard: dict[str, Any] = json.loads((ROOT / "configs/grafana/wan22.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 10
    assert set().union(*map(asked, expressions)) <= known()


def test_each_alert_uses_existing_metrics_and_is_documented() -> None:
    [group] = yaml.safe_load((ROOT / "configs/grafana/alerts.yaml").read_text())["groups"]
    operations = (ROOT / "docs/how-to/operations.md").read_text()
    for rule in group["rules"]:
        assert asked(rule["expr"])
        assert asked(rule["expr"]) <= known()
        assert rule["alert"] in operations
