"""What is in deploy/ and docker-compose.yml fits together, and names only metrics that Livehook exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/livehook.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
ROLE_PORTS = {"streams": 8081, "sink": 8082, "api": 8080}

# Name of each exported metric, and its labels.
METRICS: dict[str, set[str]] = {
    "livehook_mutations_total": {"outcome"},
    "livehook_changes_total": set(),
    "livehook_matches_total": {"webhook", "match"},
    "livehook_documents": set(),
    "livehook_attempts_total": {"webhook", "outcome"},
    "livehook_attempt_seconds": {"webhook"},
    "livehook_end_to_end_seconds": {"webhook"},
    "livehook_egress_refused_total": {"class"},
    "livehook_lane_lag": {"webhook"},
    "livehook_lane_in_flight": {"webhook"},
    "livehook_lane_parked": {"webhook"},
    "livehook_lane_state": {"webhook", "state"},
    "livehook_dead_letters_total": {"reason"},
    "livehook_gaps_total": {"webhook"},
    "livehook_stream_lag": {"topic"},
    "livehook_backfill_changes_total": set(),
    "livehook_backfill_left": {"webhook"},
    "livehook_replay_deliveries": {"webhook"},
    "livehook_replay_left": {"webhook"},
    "livehook_duplicates_dropped_total": {"stage"},
    "livehook_rebalances_total": {"role"},
}


def metrics_in(text: str) -> set[str]:
    """The metrics that a text names, histograms without the ending that Prometheus adds."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\blivehook_[a-z_]+", text)}


def labels_in(expression: str) -> set[str]:
    """The labels that an expression groups or selects by; ``le`` belongs to every histogram."""
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    return (grouped | set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression))) - {"le"}


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_shows_every_metric():
    """What is exported is looked at, and what is looked at is exported."""
    assert set(METRICS) == metrics_in(" ".join(expressions()))


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_uses_labels_that_its_metrics_have(expression):
    """A misspelled label makes an empty panel, not an error."""
    assert set() == labels_in(expression) - set().union(*(METRICS[name] for name in metrics_in(expression)))


def test_the_dashboards_variable_names_a_metric():
    """The list of webhooks comes from a metric that has that label."""
    (variable,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "webhook"]
    (name,) = metrics_in(variable["query"]["query"])
    assert "webhook" in METRICS[name]


def test_panels_are_numbered_once_and_do_not_overlap():
    """Two panels with one number or in one place hide each other."""
    panels = DASHBOARD["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    cells = [cell for panel in panels for cell in cells_of(panel["gridPos"])]
    assert len(cells) == len(set(cells))


def cells_of(position: dict[str, int]) -> list[tuple[int, int]]:
    columns = range(position["x"], position["x"] + position["w"])
    return [(column, row) for column in columns for row in range(position["y"], position["y"] + position["h"])]


def test_the_metrics_page_documents_every_metric():
    """docs/reference/metrics.md lists what is exported, no more and no less."""
    rows = re.findall(r"^\| `(livehook_\w+)(?:\{([a-z,]*)\})?` \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE)
    assert METRICS == {name: set(labels.split(",")) - {""} for name, labels in rows}


def test_prometheus_scrapes_every_role_on_its_port():
    """Each role of the compose file is a target, found by its service name on the port that it listens on by default."""
    targets = {
        (name, config["port"]) for job in PROMETHEUS["scrape_configs"] for config in job["dns_sd_configs"] for name in config["names"]
    }
    assert set(ROLE_PORTS.items()) == targets


@pytest.mark.parametrize("role", ROLE_PORTS)
def test_a_role_is_started_by_its_command_and_checked_on_its_port(role):
    """The service, the command and the port of the health check belong together."""
    service = COMPOSE["services"][role]
    assert [role, "--host", "0.0.0.0"] == service["command"][:3]
    assert f"http://127.0.0.1:{ROLE_PORTS[role]}/readyz" in service["healthcheck"]["test"][-1]
    assert "kafka:19092" == service["environment"]["LIVEHOOK_BOOTSTRAP_SERVERS"]


def test_everything_is_published_on_loopback_only():
    """A laptop in a café offers nobody an open Kafka."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


def test_the_compose_file_refers_to_what_is_there():
    """Services, volumes and mounted files that the compose file names exist."""
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", [])) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_grafana_is_provisioned_with_what_the_dashboard_uses():
    """The dashboard's default data source is the one that is provisioned, and its file lies where Grafana looks."""
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    providers = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/livehook.yml").read_text())["providers"]
    (default,) = [variable["current"]["value"] for variable in DASHBOARD["templating"]["list"] if variable["name"] == "datasource"]
    assert [default] == [source["uid"] for source in sources]
    mounts = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert {provider["options"]["path"] for provider in providers} <= set(mounts)


def test_the_image_is_built_from_every_package():
    """A package that the Dockerfile forgets is missing only when the container starts."""
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    let_through = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {"schemas", "streams", "connectors", "livehook"} == copied == let_through - {"LICENSE"}
