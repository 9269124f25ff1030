"""Traces and metrics from a real OpenTelemetry Collector through Harbinger and back.

Guarantees, on config-examples/traces-and-metrics.yaml:

* every span and every data point of every kind goes Collector -> Harbinger -> the same Collector, by gRPC and as JSON by HTTP, and
  the Collector writes what comes back as exactly what it had sent;
* logs go the same way, judged;
* an agent without such pipelines refuses with what to write, and the Collector's log says it.

Standard library only. Needs HARBINGER_BIN (default target/release/harbinger) and OTELCOL_BIN (default target/integration/otelcol).
"""

import json
import signal
import unittest
import urllib.error
import urllib.request

from processes import EXAMPLES, ProcessTest, free_port, harbinger, otelcol

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
TIMES = {"startTimeUnixNano": "1700000000000000001", "timeUnixNano": "1700000001000000001"}


def attributes(**values):
    return [{"key": key, "value": value} for key, value in values.items()]


def spans(first, count):
    """So many spans, each with events, links and attributes of every kind."""
    def span(n):
        return {
            "traceId": TRACE, "spanId": f"{n + 1:016x}", "parentSpanId": SPAN, "traceState": "a=b", "flags": 257,
            "name": f"GET /{n}", "kind": n % 5 + 1,
            "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": f"{1700000000000000002 + n}",
            "attributes": attributes(
                n={"intValue": str(n)}, d={"doubleValue": n / 8}, b={"boolValue": n % 2 == 0}, s={"stringValue": "\u00e4\U0001f525"},
                l={"arrayValue": {"values": [{"stringValue": "x"}]}}, y={"bytesValue": "+/8="},
            ),
            "events": [{"timeUnixNano": "1700000000000000001", "name": "e", "attributes": attributes(k={"intValue": "1"})}],
            "links": [{"traceId": TRACE, "spanId": SPAN, "traceState": "c", "flags": 1}],
            "droppedEventsCount": 3, "status": {"message": "no", "code": 2},
        }
    scope = {"scope": {"name": "lib", "version": "1"}, "spans": [span(n) for n in range(first, first + count)]}
    return {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [scope]}]}


def metrics(n):
    """One metric of each kind."""
    exemplar = {"timeUnixNano": "3", "asDouble": 1.5, "spanId": SPAN, "traceId": TRACE}
    kinds = [
        {"name": "gauge", "unit": "1", "gauge": {"dataPoints": [{**TIMES, "asDouble": n / 8}, {**TIMES, "asInt": str(-n)}]}},
        {"name": "sum", "sum": {
            "dataPoints": [{**TIMES, "asInt": str(n), "exemplars": [exemplar], "attributes": attributes(k={"boolValue": True})}],
            "aggregationTemporality": 2, "isMonotonic": True}},
        {"name": "histogram", "histogram": {
            "dataPoints": [{**TIMES, "count": "3", "sum": 0.5, "min": -1.5, "max": 2.5,
                            "bucketCounts": ["1", "0", "2"], "explicitBounds": [0.5, 1.5]}],
            "aggregationTemporality": 1}},
        {"name": "exponential", "exponentialHistogram": {
            "dataPoints": [{**TIMES, "count": "3", "sum": 1.5, "scale": -3, "zeroCount": "1",
                            "positive": {"offset": -2, "bucketCounts": ["1", "300"]}, "negative": {"offset": 5, "bucketCounts": ["7"]},
                            "zeroThreshold": 0.25}],
            "aggregationTemporality": 2}},
        {"name": "summary", "summary": {
            "dataPoints": [{**TIMES, "count": "2", "sum": 3, "quantileValues": [{"quantile": 0.5, "value": n}]}]}},
    ]
    return {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"scope": {"name": "lib"}, "metrics": kinds}]}]}


def logs(n):
    record = {"timeUnixNano": "1700000000000000001", "severityNumber": 9, "body": {"stringValue": f"customer {n} paid"}}
    return {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"scope": {}, "logRecords": [record]}]}]}


def lines(path):
    """What the file exporter has written so far, as far as it is whole."""
    if not path.exists():
        return []
    text = path.read_bytes()
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].split(b"\n") if line]


class Signals(ProcessTest):
    """A Collector with Harbinger between its two OTLP receivers; its files are what went and what came back."""

    def setUp(self):
        super().setUp()
        self.harbinger_bin, self.otelcol_bin = harbinger(), otelcol()
        names = ("grpc", "http", "health", "in_http", "back_grpc", "back_http")
        self.ports = {name: free_port() for name in names}
        self.local = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}

    def start_agent(self, example, *sets):
        command = [self.harbinger_bin, "run", "--config", str(EXAMPLES / example)]
        sets += (
            f"processors.harbinger.state.directory={self.dir / 'state'}",
            f"extensions.health_check.endpoint={self.local['health']}",
            "service.telemetry.metrics.level=none",
        )
        agent = self.start("harbinger", [*command, *(part for given in sets for part in ("--set", given))])
        self.wait_for_health(self.ports["health"], agent)
        return agent

    def start_collector(self, signals, exporters, encoding):
        """`signals` go out by `exporters`, and into the file `SIGNAL-went`; what comes back into `SIGNAL-came`."""
        file = lambda name: {"path": str(self.dir / name), "flush_interval": "100ms"}
        to_agent = {"sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": True}}
        config = {
            "receivers": {
                "otlp/in": {"protocols": {"http": {"endpoint": self.local["in_http"]}}},
                "otlp/back": {"protocols": {
                    "grpc": {"endpoint": self.local["back_grpc"]}, "http": {"endpoint": self.local["back_http"]}}},
            },
            "exporters": {
                "otlp_grpc": {"endpoint": self.local["grpc"], "tls": {"insecure": True}, **to_agent},
                "otlp_http": {"endpoint": f"http://{self.local['http']}", "encoding": encoding, **to_agent},
                **{f"file/{signal}-{way}": file(f"{signal}-{way}") for signal in signals for way in ("went", "came")},
            },
            "service": {
                "pipelines": {
                    **{f"{signal}/in": {"receivers": ["otlp/in"], "exporters": [f"file/{signal}-went", *exporters]}
                       for signal in signals},
                    **{f"{signal}/back": {"receivers": ["otlp/back"], "exporters": [f"file/{signal}-came"]} for signal in signals},
                },
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        written = self.dir / "collector.json"
        written.write_text(json.dumps(config))
        collector = self.start("collector", [self.otelcol_bin, "--config", str(written)])
        for port in ("in_http", "back_grpc", "back_http"):
            self.wait_for_port(self.ports[port], collector)
        return collector

    def post(self, path, message):
        request = urllib.request.Request(
            f"http://{self.local['in_http']}{path}", json.dumps(message).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.assertEqual(answer.status, 200)

    def test_what_comes_back_is_what_went(self):
        exporters = ["otlp_grpc", "otlp_http"]
        collector = self.start_collector(["traces", "metrics", "logs"], exporters, "json")
        agent = self.start_agent(
            "traces-and-metrics.yaml",
            f"receivers.otlp.protocols.grpc.endpoint={self.local['grpc']}",
            f"receivers.otlp.protocols.http.endpoint={self.local['http']}",
            f"exporters.otlp_grpc.endpoint=http://{self.local['back_grpc']}",
            f"exporters.otlp_http/prometheus.metrics_endpoint=http://{self.local['back_http']}/v1/metrics",
            f"extensions.file_storage.directory={self.dir / 'queue'}",
        )
        for n in range(10):
            self.post("/v1/traces", spans(10 * n, 10))
            self.post("/v1/metrics", metrics(n))
            self.post("/v1/logs", logs(n))
        came = lambda signal: lines(self.dir / f"{signal}-came")
        for name in ("traces", "metrics", "logs"):
            # Events of incidents are logs as well, if there are any.
            self.wait_until(
                lambda: len(came(name)) >= 10 * len(exporters), f"all {name} have come back", needs=[agent, collector])
        for name in ("traces", "metrics"):
            in_order = lambda requests: sorted(json.dumps(request, sort_keys=True) for request in requests)
            went = lines(self.dir / f"{name}-went")
            self.assertEqual(len(went), 10)
            self.assertEqual(in_order(came(name)), in_order(went * len(exporters)), name)
        for request in came("logs"):
            for record in request["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
                self.assertIn("is_anomaly", [attribute["key"] for attribute in record["attributes"]])
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())

    def test_without_a_pipeline_the_sender_is_told_what_to_write(self):
        exporters = ["otlp_grpc", "otlp_http"]
        # Of a refusal in JSON the Collector (0.159) does not show the words.
        collector = self.start_collector(["traces", "metrics"], exporters, "proto")
        agent = self.start_agent(
            "http.yaml",
            f"receivers.otlp.protocols.grpc.endpoint={self.local['grpc']}",
            f"receivers.otlp.protocols.http.endpoint={self.local['http']}",
            "service.extensions=[health_check]",
        )
        for path, message, name in (("/v1/traces", spans(0, 1), "traces"), ("/v1/metrics", metrics(0), "metrics")):
            fix = f"service.pipelines.{name}: {{receivers: [otlp], exporters: [...]}}"
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.post(path, message)
            refused.exception.close()
            # Once by each exporter, never sent again; and the agent's own log says it too.
            for process, times in ((collector, 2), (agent, 1)):
                said = lambda: process.log.read_text(errors="replace").count(fix) >= times
                self.wait_until(said, f"{process.name} says what to write for {name}", needs=[agent, collector])


if __name__ == "__main__":
    unittest.main()
