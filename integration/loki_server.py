"""A real Loki (built by loki/build.sh) on config-examples/loki/loki.yaml, and questions to it in LogQL.

What enters: a stage that starts processes, OTLP by HTTP at `otlp`, LogQL. What leaves: lines as Loki gives them, index labels and
structured metadata apart; numbers; its own metrics. Promises: nothing is cached between two questions, and an answer that Loki
refuses is an error with its words. Ports are free ones and everything it stores lies in the stage's folder.
Deliberately absent: waiting; `stage.wait_until` does that. Standard library only.
"""

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections import namedtuple

from processes import EXAMPLES, free_port, loki

CONFIG = EXAMPLES / "loki" / "loki.yaml"

# What a log query gives of one line. `time` is in nanoseconds since 1970.
Line = namedtuple("Line", "time body labels metadata")
# Of one series of a metric query: its labels, and (seconds since 1970, number) for each step.
Series = namedtuple("Series", "labels points")

# More lines than any test asks for, and room for them in one answer.
MANY = 200_000
# What differs from the file: it is ready at once, and finds in memory what is days old.
FLAGS = (
    "-ingester.min-ready-duration=0s",
    "-querier.query-ingesters-within=0s",
    f"-validation.max-entries-limit={MANY}",
    "-server.grpc-max-recv-msg-size-bytes=268435456",
    "-server.grpc-max-send-msg-size-bytes=268435456",
    "-querier.max-query-series=20000",
)


class Loki:
    """One Loki. `flags` come after those above, as ("-ingester.per-stream-rate-limit=4KB",); `alertmanager` and `rules` are for
    the ruler: a URL, and a folder of rule files."""

    def __init__(self, *flags, alertmanager=None, rules=None):
        self.flags, self.alertmanager, self.rules = flags, alertmanager, rules
        self.port, self.grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Where an `otlp_http` exporter sends: it puts /v1/logs behind it.
        self.otlp = f"{self.url}/otlp"
        self.process = None

    def start(self, stage):
        """Starts it, again on what it has stored if it ran before, and waits until it is ready."""
        self.folder = stage.dir / f"loki-{self.port}"
        rules = self.folder / "rules"
        if self.rules and not rules.exists():
            rules.mkdir(parents=True)
            # `fake` is the one tenant there is.
            (rules / "fake").symlink_to(self.rules.resolve())
        command = [
            loki(), f"-config.file={CONFIG}",
            "-server.http-listen-address=127.0.0.1", f"-server.http-listen-port={self.port}",
            "-server.grpc-listen-address=127.0.0.1", f"-server.grpc-listen-port={self.grpc_port}",
            f"-common.path-prefix={self.folder}",
            f"-common.storage.filesystem.chunk-directory={self.folder / 'chunks'}",
            f"-ruler.storage.local.directory={rules}", f"-ruler.rule-path={self.folder / 'rules-temporary'}",
            f"-ruler.alertmanager-url={self.alertmanager or ''}",
            *FLAGS, *self.flags,
        ]
        self.process = stage.start("loki", command)
        stage.wait_for_health(self.port, self.process, "/ready")
        return self

    def query(self, logql, start, end):
        """The lines of a log query in [start, end), seconds since 1970, in the order of their times."""
        found = self.get("query_range", query=logql, start=nanoseconds(start), end=nanoseconds(end), limit=MANY,
                         direction="forward")
        if found["resultType"] != "streams":
            raise AssertionError(f"{logql} is no log query: it gives {found['resultType']}")
        lines = [
            Line(int(time), body, stream["stream"], categories[0].get("structuredMetadata", {}) if categories else {})
            for stream in found["result"]
            for time, body, *categories in stream["values"]
        ]
        return sorted(lines, key=lambda line: line.time)

    def query_range(self, logql, start, end, step=60):
        """The series of a metric query over [start, end], a point each `step` seconds."""
        found = self.get("query_range", query=logql, start=nanoseconds(start), end=nanoseconds(end), step=step)
        return [Series(one["metric"], [(at, float(number)) for at, number in one["values"]]) for one in found["result"]]

    def instant(self, logql, at):
        """The series of a metric query at one time, one point each."""
        found = self.get("query", query=logql, time=nanoseconds(at))
        return [Series(one["metric"], [(one["value"][0], float(one["value"][1]))]) for one in found["result"]]

    def count(self, logql, start, end, by=None):
        """How many lines a log query has: a number, or numbers by the value of a label. Times are rounded to seconds, outwards."""
        grouping = f" by ({by})" if by else ""
        span = math.ceil(end) - math.floor(start) + 1
        found = self.instant(f"sum{grouping} (count_over_time({logql} [{span}s]))", math.ceil(end))
        numbers = {one.labels.get(by, ""): int(one.points[0][1]) for one in found}
        return numbers if by else sum(numbers.values())

    def flush(self):
        """Has everything in memory written to chunks. That it has happened, only the disk can tell."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/flush", method="POST"), timeout=60).close()

    def metrics(self, name):
        """The values of one of its own metrics: {text of the labels: number}."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        values = {}
        for line in text.splitlines():
            series, _, value = line.rpartition(" ")
            if series == name or series.startswith(name + "{"):
                values[series[len(name):]] = float(value)
        return values

    def get(self, what, **parameters):
        """What /loki/api/v1/`what` answers, its `data`."""
        url = f"{self.url}/loki/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        headers = {"Cache-Control": "no-cache", "X-Loki-Response-Encoding-Flags": "categorize-labels"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")
            raise AssertionError(f"Loki answers {error.code} to {parameters.get('query', what)}: {words}") from None


def nanoseconds(seconds):
    return f"{round(seconds * 1e6)}000"
