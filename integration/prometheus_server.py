"""A real Prometheus (built by prometheus/build.sh) that scrapes one agent, and questions to it in PromQL.

What enters: a stage that starts processes, the agent's address, PromQL. What leaves: series as Prometheus gives them, rules and
alerts as it has them. Promises: an answer that Prometheus refuses is an error with its words; a free port, and files in the
stage's folder. Deliberately absent: waiting; `stage.wait_until` does that. Standard library only.
"""

import json
import urllib.error
import urllib.parse
import urllib.request

from loki_server import Series
from processes import free_port, prometheus

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: harbinger, static_configs: [{{targets: ["{target}"]}}]}}]
"""


class Prometheus:
    """One Prometheus that scrapes `target` every second as the job `harbinger`; `rules` are files of rules."""

    def __init__(self, target, *rules):
        self.target, self.rules = target, rules
        self.port = free_port()
        self.process = None

    def start(self, stage):
        config = stage.dir / "prometheus.yaml"
        rules = ", ".join(json.dumps(str(path)) for path in self.rules)
        config.write_text(CONFIG.format(target=self.target, rules=rules), encoding="utf-8")
        self.process = stage.start("prometheus", [
            prometheus(), f"--config.file={config}", f"--storage.tsdb.path={stage.dir / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ])
        stage.wait_for_health(self.port, self.process, "/-/ready")
        return self

    def instant(self, promql, at):
        """The series of a query at one time, one point each."""
        found = self.get("query", query=promql, time=at)
        if found["resultType"] == "scalar":
            return [Series({}, [(found["result"][0], float(found["result"][1]))])]
        return [Series(one["metric"], [(one["value"][0], float(one["value"][1]))]) for one in found["result"]]

    def query_range(self, promql, start, end, step):
        """The series of a query over [start, end], a point each `step` seconds."""
        found = self.get("query_range", query=promql, start=start, end=end, step=step)
        return [Series(one["metric"], [(at, float(number)) for at, number in one["values"]]) for one in found["result"]]

    def rules_loaded(self):
        """Every rule it has, as it understands it."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def label_values(self, label, series):
        return self.get(f"label/{label}/values", **{"match[]": series})

    def get(self, what, **parameters):
        """What /api/v1/`what` answers, its `data`."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")
            raise AssertionError(f"Prometheus answers {error.code} to {parameters.get('query', what)}: {words}") from None
