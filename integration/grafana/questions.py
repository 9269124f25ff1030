"""Every query that the files of config-examples hold, as Grafana, Prometheus and Loki would ask it.

What enters: dashboards, provisioning and rule files. What leaves: `Question`s with their place, and their text with Grafana's
variables replaced. Promises: nothing is left out: every target of every panel, every expression of every rule. Deliberately
absent: what the answers should be; test_grafana.py has that.
"""

import json
import re
import subprocess
from collections import namedtuple

from processes import EXAMPLES, ROOT

GRAFANA = EXAMPLES / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
ALERTING = GRAFANA / "provisioning/alerting/harbinger.yaml"
DATA_SOURCES = GRAFANA / "provisioning/datasources/harbinger.yaml"
LOKI_RULES = EXAMPLES / "loki/rules"
PROMETHEUS_RULES = EXAMPLES / "prometheus/harbinger-alerts.yaml"

# Where the packages of package.json are.
NODE = ROOT / "target/integration/grafana"

# `where` is (dashboard's uid, panel's title, refId), or (file's name, rule's name). `to` is loki or prometheus.
Question = namedtuple("Question", "where to text instant")


def yaml(*paths):
    """What YAML files hold."""
    if not (NODE / "node_modules/yaml").is_dir():
        raise AssertionError(f"{NODE}/node_modules is not there: run `make integration-grafana`")
    command = ["node", "read.mjs", "json", *map(str, paths)]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def dashboards():
    """{uid: dashboard}."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    return {dashboard["uid"]: dashboard for dashboard in read}


def of_dashboards():
    for uid, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                to = target["datasource"]["type"]
                instant = target["queryType"] == "instant" if to == "loki" else target["instant"]
                yield Question((uid, panel["title"], target["refId"]), to, target["expr"], instant)


def of_grafana_alerts():
    (alerting,) = yaml(ALERTING)
    for group in alerting["groups"]:
        for rule in group["rules"]:
            for step in rule["data"]:
                if "expr" in step["model"]:
                    to = step["datasourceUid"].removeprefix("harbinger-")
                    yield Question(("grafana", rule["title"]), to, step["model"]["expr"], True)


def of_rules():
    paths = [*sorted(LOKI_RULES.glob("*.yaml")), PROMETHEUS_RULES]
    for path, rules in zip(paths, yaml(*paths)):
        to = "prometheus" if path == PROMETHEUS_RULES else "loki"
        for group in rules["groups"]:
            for rule in group["rules"]:
                yield Question((to, rule["alert"]), to, rule["expr"], True)


def everything():
    return [*of_dashboards(), *of_grafana_alerts(), *of_rules()]


def asked(text, **variables):
    """The text with Grafana's variables replaced; what is not given is an error."""
    def value(found):
        name = found[1] or found[2]
        if name not in variables:
            raise AssertionError(f"${name} is no variable that is known, in {text}")
        return variables[name]

    return re.sub(r"\$\{(\w+)\}|\$(\w+)", value, text)


def metrics_in(text):
    """The names of the agent's metrics in a query."""
    return set(re.findall(r"\bharbinger_(?!incident_leading|incident_worst|incident_records|incident_anom)\w+", text))


def variables_of(dashboard):
    """{name: variable} of a dashboard."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}
