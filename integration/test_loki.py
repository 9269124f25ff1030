"""Records in a real Loki (built by loki/build.sh, on config-examples/loki/loki.yaml), asked for in LogQL.

Guarantees:

* the recording through Collector, agent (config-examples/loki.yaml) and Loki: every line is there once, with body, labels and
  metadata as sent; anomalies, incidents and events are as many as the agent says it sent;
* what CONFORMANCE.md says of Loki as the destination, items 22 to 26: what it takes, what it refuses and what then becomes of the
  record, its neighbours and its request; a stream that is too fast arrives later, and nothing is stored twice.

Standard library only.
"""

import json
import re
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request
from collections import Counter
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chaos import wire
from loki_server import Loki
from processes import EXAMPLES, ProcessTest, detection, free_port, harbinger, otelcol
from recorded import EVENTS, TRUTH, requests_in, seconds, slice_of

# Resource attributes that config-examples/loki/loki.yaml makes index labels, as far as they come here.
INDEX_LABELS = {"service.name"}
SECOND = 1_000_000_000
EVERYTHING = '{service_name=~".+"}'

COLLECTOR = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}", max_recv_msg_size_mib: 64}}}}}}}}
processors: {{batch: {{timeout: 200ms, send_batch_size: 500, send_batch_max_size: 500}}}}
exporters: {{otlp_grpc: {{endpoint: "localhost:{agent}", tls: {{insecure: true}}}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [batch], exporters: [otlp_grpc]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""

# Beside Loki a file, so that what is stored can be compared with what was sent.
WITH_FILE = """
exporters: {{file: {{path: "{path}"}}}}
service: {{pipelines: {{logs: {{exporters: [otlp_http/loki, file]}}}}}}
"""

# Nothing but the way to Loki: callers wait for its answer, and get it.
WITHOUT_QUEUE = "exporters: {otlp_http/loki: {sending_queue: {enabled: false}}}"


class LokiTest(ProcessTest):
    deadline_seconds = 240

    def agent(self, endpoint, *overlays, sets=()):
        """Starts an agent on config-examples/loki.yaml that sends there; `overlays` are laid over it."""
        self.grpc, self.http, self.health, self.metrics = (free_port() for _ in range(4))
        self.queue = self.dir / "queue"
        command = [harbinger(), "run", "--config", str(EXAMPLES / "loki.yaml")]
        for number, overlay in enumerate(overlays):
            path = self.dir / f"overlay-{number}.yaml"
            path.write_text(overlay, encoding="utf-8")
            command += ["--config", str(path)]
        for each in (
            f"receivers.otlp.protocols.grpc.endpoint=localhost:{self.grpc}",
            f"receivers.otlp.protocols.http.endpoint=localhost:{self.http}",
            f"extensions.health_check.endpoint=localhost:{self.health}",
            f"extensions.harbinger_api.endpoint=127.0.0.1:{free_port()}",
            "extensions.harbinger_page.endpoint=localhost:0",
            f"extensions.file_storage.directory={self.queue}",
            f"processors.harbinger.state.directory={self.dir / 'state'}",
            "exporters.otlp_http/loki.retry_on_failure.initial_interval=200ms",
            "service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {host: localhost, port: %d}}}}]" % self.metrics,
            *sets,
        ):
            command += ["--set", each]
        process = self.start("harbinger", command, {"LOKI": endpoint})
        self.wait_for_health(self.health, process)
        return process

    def is_ready(self):
        """Whether the agent has learned what is normal."""
        return detection(self.health)[1] == "ready"

    def metric(self, name, label=""):
        """The sum of one of the agent's metrics, over all labels or where there is this one."""
        with urllib.request.urlopen(f"http://localhost:{self.metrics}/metrics", timeout=10) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        found = [float(value) for series, _, value in lines if series.split("{")[0] == f"harbinger_{name}" and label in series]
        self.assertTrue(found, f"the agent has no metric harbinger_{name}")
        return int(sum(found))

    def send(self, *resources):
        """Posts one request to the agent; returns the status and what it says."""
        return self.post(json.dumps({"resourceLogs": resources}).encode())

    def post(self, body, content_type="application/json", url=None, **headers):
        url = url or f"http://localhost:{self.http}/v1/logs"
        request = urllib.request.Request(url, body, {"Content-Type": content_type, **headers}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def dead_letters(self):
        """What `harbinger dead-letters list` says, of an agent that has ended."""
        command = [harbinger(), "dead-letters", "list", "--directory", str(self.queue)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


def now():
    return time.time_ns()


def moved(requests, later):
    """Requests as OTLP JSON with all times so many seconds later."""
    times = re.compile(r'"((?:observedT|t)imeUnixNano)":"(\d+)"')
    return times.sub(lambda found: f'"{found[1]}":"{int(found[2]) + later * SECOND}"', requests)


def text(value):
    """An attribute's value in OTLP JSON, from one of Python's."""
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def attributes(values):
    return [{"key": key, "value": text(value)} for key, value in values.items()]


def record(body, at=None, **values):
    return {"timeUnixNano": str(at or now()), "body": {"stringValue": body}, "attributes": attributes(values)}


def service(name, *records, **values):
    """Records of one service, with further attributes of its resource."""
    return {
        "resource": {"attributes": attributes({"service.name": name, **values})},
        "scopeLogs": [{"logRecords": list(records)}],
    }


def answers(loki, code):
    """How many requests to Loki's OTLP endpoint were answered with that status."""
    counts = loki.metrics("loki_request_duration_seconds_count")
    return int(sum(n for labels, n in counts.items() if 'route="otlp_v1_logs"' in labels and f'status_code="{code}"' in labels))


def discarded(loki):
    """How many lines Loki has discarded, by its reason."""
    counts = Counter()
    for labels, number in loki.metrics("loki_discarded_samples_total").items():
        counts[labels.split('reason="')[1].split('"')[0]] += int(number)
    return counts


def plain(value):
    """An attribute's value as Loki writes it."""
    kind, content = next(iter(value.items()), ("stringValue", ""))
    if kind == "doubleValue":
        # As Go writes it: 6.7e-7, 0.00005 and 1, not 6.7e-07, 5e-05 and 1.0.
        if 0 < abs(content) < 1e-6:
            return repr(content).replace("e-0", "e-")
        return format(Decimal(repr(content)).normalize(), "f")
    if kind == "arrayValue":
        items = [int(plain(item)) if "intValue" in item else plain(item) for item in content.get("values", [])]
        return json.dumps(items, separators=(",", ":"), ensure_ascii=False)
    return str(content).lower() if kind == "boolValue" else content


def as_stored(request):
    """Each record of an OTLP request as Loki should have it: (service, time, body, metadata), and of which scope."""
    for resource in request["resourceLogs"]:
        of_resource = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
        name = plain(of_resource["service.name"])
        for scope in resource["scopeLogs"]:
            of_scope = scope.get("scope", {})
            for one in scope["logRecords"]:
                values = {**{key: value for key, value in of_resource.items() if key not in INDEX_LABELS}}
                values.update((item["key"], item["value"]) for item in one.get("attributes", []))
                metadata = {key.replace(".", "_"): value for key, value in flat(values)}
                metadata.update({
                    "scope_name": of_scope.get("name"), "scope_version": of_scope.get("version"),
                    "observed_timestamp": one.get("observedTimeUnixNano"), "severity_number": one.get("severityNumber"),
                    "severity_text": one.get("severityText"), "trace_id": one.get("traceId"), "span_id": one.get("spanId"),
                    "flags": one.get("flags"),
                })
                kept = tuple(sorted((key, str(value)) for key, value in metadata.items() if value not in (None, "", 0)))
                yield of_scope.get("name"), (name, int(one["timeUnixNano"]), plain(one.get("body", {})), kept)


def flat(values, prefix=""):
    """Attributes with maps taken apart, as Loki does: {a: {b: c}} is a_b."""
    for key, value in values.items():
        if "kvlistValue" in value:
            inner = {item["key"]: item["value"] for item in value["kvlistValue"].get("values", [])}
            yield from flat(inner, f"{prefix}{key}_")
        else:
            yield prefix + key, plain(value)


class Recording(LokiTest):
    def test_the_recording_is_in_loki_line_by_line(self):
        """31,086 records of real servers, from Collector through agent into Loki."""
        loki = Loki().start(self)
        path = self.dir / "sent.jsonl"
        # Nothing goes on unjudged because the machine is busy.
        patient = ("processors.harbinger.embedding.deadline=2s",)
        agent = self.agent(loki.otlp, WITH_FILE.format(path=path), sets=patient)
        to, health = free_port(), free_port()
        config = self.dir / "collector.yaml"
        config.write_text(COLLECTOR.format(port=to, agent=self.grpc, health=health), encoding="utf-8")
        collector = self.start("otelcol", [otelcol(), "--config", str(config)])
        self.wait_for_health(health, collector)

        # What is healthy first, so that all that follows is judged; of now, since Loki refuses what is days old.
        truth = json.loads(TRUTH.read_text(encoding="utf-8"))
        began, ended = seconds(truth["start"]), seconds(truth["end"]) + 1
        later = int(time.time() - ended)
        for part, since, until, speed in (("healthy", began, began + 500, "max"), ("rest", began + 500, ended, "100x")):
            recorded = self.dir / f"{part}.jsonl"
            slice_of(recorded, since, until)
            recorded.write_text(moved(recorded.read_text(encoding="utf-8"), later), encoding="utf-8")
            replay = [harbinger(), "replay", str(recorded), "--to", f"http://localhost:{to}", "--speed", speed]
            done = subprocess.run(replay, capture_output=True, text=True, timeout=self.deadline_seconds, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.wait_until(self.is_ready, "the agent judges", [agent])

        def through():
            return self.metric("receiver_accepted_log_records_total") >= truth["records"] and self.metric("exporter_queue_size") == 0

        self.wait_until(through, "all are through", [loki.process, agent, collector])
        anomalous, dead = self.metric("judged_log_records_total", 'verdict="anomalous"'), self.metric("exporter_dead_letters")
        # In order: what it still has to say of incidents is said, in the file and in Loki.
        self.assertEqual(agent.kill(), 0, agent.words())
        self.assertIn("0 requests wait", self.dead_letters())
        sent = [one for request in requests_in(path) for one in as_stored(request)]
        times = [at for _, (_, at, _, _) in sent]
        start, end = min(times) // SECOND, max(times) // SECOND + 1

        by_service = Counter(stored[0] for scope, stored in sent if scope != EVENTS)
        self.assertEqual(by_service, truth["recordsByService"], "not what was recorded has been sent")
        lines = {stored for _, stored in sent}
        self.assert_equal_lines(loki, lines, start, end)
        marked = self.assert_equal_counts(loki, lines, start, end)
        self.assertEqual((marked, 0), (anomalous, dead), "not what the agent says of itself")
        print(f"[{len(sent):,} records, {len(sent) - len(lines)} of them the same as another] ", end="", flush=True)

    def assert_equal_lines(self, loki, sent, start, end):
        """Loki has exactly these lines, each once, with the service as the only label."""
        lines = loki.query(EVERYTHING, start, end)
        labels = {tuple(line.labels) for line in lines}
        self.assertEqual(labels, {("service_name",)})
        found = Counter(
            (line.labels["service_name"], line.time, line.body, tuple(sorted(without_level(line.metadata).items())))
            for line in lines
        )
        for what, odd in (("not as sent", found.keys() - sent), ("missing", sent - found.keys())):
            self.assertFalse(odd, f"{len(odd)} lines of Loki {what}, such as {sorted(odd)[:2]}")
        self.assertEqual(set(found.values()), {1})

    def assert_equal_counts(self, loki, sent, start, end):
        """The queries that people write give the numbers of what was sent; returns how many are marked."""
        def counted(key, value=None):
            of = Counter()
            for name, _, _, metadata in sent:
                has = dict(metadata).get(key)
                if has is not None and value in (None, has):
                    of[name if value else has] += 1
            return dict(of)

        anomalies = counted("is_anomaly", "true")
        self.assertGreater(sum(anomalies.values()), 100, "there is hardly an anomaly in it")
        self.assertEqual(loki.count(EVERYTHING + ' | is_anomaly="true"', start, end, by="service_name"), anomalies)
        for name, number in anomalies.items():
            self.assertEqual(loki.count(f'{{service_name="{name}"}} | is_anomaly="true"', start, end), number)

        incidents = counted("incident_id")
        self.assertGreaterEqual(len(incidents), 5, "there were five faults")
        self.assertEqual(loki.count(EVERYTHING + ' | incident_id!=""', start, end, by="incident_id"), incidents)
        largest = max(incidents, key=incidents.get)
        found = loki.query(f'{EVERYTHING} | incident_id="{largest}"', start, end)
        self.assertEqual(len(found), incidents[largest])

        events = {key: number for key, number in counted("harbinger_event").items()}
        self.assertIn("harbinger.incident.opened", events)
        self.assert_events_lead_to_their_records(loki, sent, start, end)
        self.assertEqual(loki.count('{service_name="harbinger"} | harbinger_event!=""', start, end, by="harbinger_event"), events)
        return sum(anomalies.values())

    def assert_events_lead_to_their_records(self, loki, lines, start, end):
        """The query that each event of a closed incident brings along finds the records of others that bear its ids."""
        closed = loki.query('{service_name="harbinger"} | harbinger_event="harbinger.incident.closed"', start, end)
        self.assertTrue(closed, "no incident has been closed")
        for event in closed:
            of = event.metadata
            ids = {of["incident_id"], *json.loads(of.get("harbinger_incident_aliases", "[]"))}
            expected = sum(name != "harbinger" and dict(metadata).get("incident_id") in ids for name, _, _, metadata in lines)
            query = of["harbinger_incident_logql"]
            self.assertEqual(len(loki.query(query, start, end)), expected, f"{query}\n{event.body}")


def without_level(metadata):
    """Loki adds a level of its own finding."""
    return {key: value for key, value in metadata.items() if key != "detected_level"}


class Destination(LokiTest):
    """CONFORMANCE.md, "Loki as the destination"."""

    # What the agent itself says is not counted here.
    QUIET = ("processors.harbinger.events.enabled=false",)

    def setUp(self):
        super().setUp()
        self.began = time.time()

    def agent(self, endpoint, *overlays, sets=()):
        return super().agent(endpoint, *overlays, sets=(*self.QUIET, *sets))

    def bodies(self, loki, logql=EVERYTHING, days=0):
        """The bodies of the lines there are, in the order of their times."""
        return [line.body for line in loki.query(logql, self.began - 86_400 * days - 7_200, time.time() + 3_600)]

    def wait_for_lines(self, loki, number, logql=EVERYTHING):
        self.wait_until(lambda: len(self.bodies(loki, logql)) >= number, f"{number} lines are in Loki", [loki.process])

    def test_item_22_protobuf_by_gzip_zstd_and_plain_and_json_are_answered_204(self):
        """Four exporters in one pipeline, each its own way; the lines are the same, so that one of each is stored."""
        loki = Loki().start(self)
        ways = {"gzip": "compression: gzip", "zstd": "compression: zstd", "none": "compression: none", "json": "encoding: json"}
        queue = "sending_queue: {storage: file_storage}"
        exporters = ", ".join(f"otlp_http/{name}: {{endpoint: '{loki.otlp}', {how}, {queue}}}" for name, how in ways.items())
        names = ", ".join(f"otlp_http/{name}" for name in ways)
        self.agent(loki.otlp, f"exporters: {{{exporters}}}\nservice: {{pipelines: {{logs: {{exporters: [{names}]}}}}}}")
        status, said = self.send(service("shop", record("cart opened"), record("cart closed")))
        self.assertEqual(status, 200, said)
        self.wait_until(lambda: answers(loki, 204) == len(ways), "all four have been answered 204", [loki.process])
        self.assertEqual(self.bodies(loki), ["cart opened", "cart closed"])

    def test_item_22_a_media_type_with_a_parameter_is_refused(self):
        """Why it must be exactly application/x-protobuf."""
        loki = Loki().start(self)
        one = wire.fixed64(1, now()) + wire.block(5, wire.block(wire.STRING, b"hello"))
        for_all = wire.block(wire.SCOPE_LOGS, wire.block(wire.LOG_RECORDS, one))
        request = wire.block(wire.RESOURCE_LOGS, for_all)
        for media_type, code in (("application/x-protobuf", 204), ("application/x-protobuf; charset=utf-8", 400)):
            status, said = self.post(request, media_type, f"{loki.otlp}/v1/logs")
            self.assertEqual(status, code, said)

    def test_item_23_a_400_is_not_sent_again_and_its_request_becomes_a_dead_letter(self):
        """Loki has stored the neighbours of what it refuses; the next request goes through."""
        loki = Loki().start(self)
        agent = self.agent(loki.otlp)
        too_long = record("x" * (256 * 1024 + 1))
        status, said = self.send(service("shop", record("before it"), too_long, record("after it")))
        self.assertEqual(status, 200, said)
        self.wait_until(lambda: self.metric("exporter_dead_letters") == 1, "it is a dead letter", [agent])
        self.send(service("shop", record("the next request")))
        self.wait_for_lines(loki, 3)
        self.assertEqual(self.bodies(loki), ["before it", "after it", "the next request"])
        self.assertEqual((answers(loki, 400), answers(loki, 204)), (1, 1))
        # The unit is the request: Loki does not say which of its records it has refused.
        self.assertEqual(self.metric("exporter_dead_letter_log_records_total"), 3)
        self.assertEqual(agent.kill(), 0, agent.words())
        self.assertIn("max entry size", self.dead_letters())

    def test_item_23_without_a_queue_the_caller_is_told(self):
        """In Loki's words, and as something that is not to be sent again."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        status, said = self.send(service("shop", record("before it"), record("x" * (256 * 1024 + 1))))
        self.assertEqual(status, 400, said)
        self.assertIn(b"max entry size", said)
        self.assertEqual(self.bodies(loki), ["before it"])
        self.assertEqual(answers(loki, 400), 1)
        self.assertEqual(self.metric("exporter_send_failed_log_records_total"), 2)

    def test_items_23_and_26_a_stream_that_is_too_fast_arrives_later_and_once(self):
        """429 with some of the lines stored, and no word of when to come back: the same bytes again, until all are in."""
        loki = Loki("-ingester.per-stream-rate-limit=20KB", "-ingester.per-stream-rate-limit-burst=40KB").start(self)
        agent = self.agent(loki.otlp)
        bodies = [f"line {number} " + "x" * 1000 for number in range(160)]
        for at in range(0, len(bodies), 20):
            status, said = self.send(service("shop", *map(record, bodies[at : at + 20])))
            self.assertEqual(status, 200, said)
        self.wait_for_lines(loki, len(bodies))
        self.wait_until(lambda: self.metric("exporter_queue_size") == 0, "the queue is empty", [agent])
        self.assertEqual(self.bodies(loki), bodies)
        self.assertGreater(answers(loki, 429), 0, "it was never too fast")
        self.assertGreater(discarded(loki)["per_stream_rate_limit"], 0)
        self.assertEqual(self.metric("exporter_dead_letters"), 0)
        self.assert_stored_once(loki, len(bodies))

    def assert_stored_once(self, loki, number):
        """So many lines are in the chunks, not only in answers, from which Loki leaves out what is double."""
        loki.flush()
        entries = self.wait_until(
            lambda: sum(loki.metrics("loki_ingester_chunk_entries_sum").values()), "chunks are written", [loki.process]
        )
        self.assertEqual(entries, number)

    def test_item_24_what_goes_beyond_a_limit_is_refused_and_its_neighbour_is_not(self):
        """Each limit, by Loki's own name of the reason."""
        loki = Loki("-validation.max-label-names-per-series=2").start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        day, minute = 86_400 * SECOND, 60 * SECOND
        many = {f"key.{n}": "value" for n in range(100)}
        cases = {
            "line_too_long": (record("x" * (256 * 1024 + 1)), {}),
            "greater_than_max_sample_age": (record("old", now() - 7 * day - minute), {}),
            "too_far_in_future": (record("ahead", now() + 11 * minute), {}),
            "structured_metadata_too_large": (record("large", key="x" * (64 * 1024)), {}),
            "structured_metadata_too_many": (record("many", **{f"key.{n}": "value" for n in range(129)}), {}),
        }
        for number, (reason, (bad, of_resource)) in enumerate(cases.items()):
            with self.subTest(reason):
                status, said = self.send(service(f"shop-{number}", record("neighbour"), bad, **of_resource))
                self.assertEqual(status, 400, said)
                self.assertEqual(self.bodies(loki, f'{{service_name="shop-{number}"}}', days=8), ["neighbour"])
                self.assertEqual(discarded(loki)[reason], 1)
        with self.subTest("attributes of the resource count on each line"):
            more = {f"more.{n}": "value" for n in range(30)}
            status, said = self.send(service("wide", record("neighbour"), record("many", **more), **many))
            self.assertEqual(status, 400, said)
            self.assertEqual(self.bodies(loki, '{service_name="wide"}'), ["neighbour"])
            self.assertEqual(discarded(loki)["structured_metadata_too_many"], 2)
        with self.subTest("index labels"):
            labels = {"service.namespace": "a", "cloud.region": "b", "deployment.environment.name": "c"}
            status, said = self.send(service("labelled", record("refused"), **labels), service("shop", record("neighbour")))
            self.assertEqual(status, 400, said)
            self.assertEqual(self.bodies(loki, '{service_name=~"labelled|shop"}'), ["neighbour"])
            self.assertEqual(discarded(loki)["max_label_names_per_series"], 1)

    def test_item_24_out_of_order_is_taken_for_an_hour(self):
        """Behind the newest of its stream, not behind the clock: another service may still be that late."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        newest, minute = now(), 60 * SECOND
        for body, back, code in (("newest", 0, 200), ("late", 59, 200), ("too late", 61, 400)):
            status, said = self.send(service("shop", record(body, newest - back * minute)))
            self.assertEqual(status, code, said)
        status, said = self.send(service("other", record("late, elsewhere", newest - 61 * minute)))
        self.assertEqual(status, 200, said)
        self.assertEqual(self.bodies(loki), ["late, elsewhere", "late", "newest"])
        self.assertEqual(discarded(loki)["too_far_behind"], 1)

    def test_item_25_names_and_values_as_loki_writes_them(self):
        """Dots become underscores, a bool a word; of two names that become one, one is left; nothing of ours is a label."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        values = {"http.status": 503, "retried": True, "a.b": "with a dot", "a_b": "with an underscore", "is.anomaly": "theirs"}
        status, said = self.send(service("shop", record("hello", **values), **{"host.name": "shop-1"}))
        self.assertEqual(status, 200, said)
        where = (self.began - 60, time.time() + 60)
        [line] = loki.query('{service_name="shop"} | is_anomaly="false" | http_status="503" | retried="true"', *where)
        self.assertEqual(line.metadata["host_name"], "shop-1")
        # The last one; and what Harbinger writes comes last.
        self.assertEqual(line.metadata["a_b"], "with an underscore")
        self.assertEqual(line.labels, {"service_name": "shop"})
        labels = loki.get("labels", start=int(where[0] * SECOND), end=int(where[1] * SECOND))
        self.assertEqual(labels, ["service_name"])

    def test_item_25_a_name_that_loki_cannot_write_has_the_whole_request_refused(self):
        """Not the record alone: nothing of it is stored, so that it is a dead letter whole."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        status, said = self.send(service("shop", record("neighbour"), record("hello", **{"\u65e5\u672c": "value"})))
        self.assertEqual(status, 400, said)
        self.assertEqual(self.bodies(loki), [])

    def test_item_26_a_callers_identical_retry_is_stored_once(self):
        """The same bytes twice get the same attributes, so that Loki knows them again."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        body = json.dumps({"resourceLogs": [service("shop", *(record(f"line {n}") for n in range(10)))]}).encode()
        for _ in range(2):
            status, said = self.post(body)
            self.assertEqual(status, 200, said)
        self.assertEqual(self.bodies(loki), [f"line {n}" for n in range(10)])
        self.assertEqual(answers(loki, 204), 2)
        self.assert_stored_once(loki, 10)

    def test_item_26_the_repeat_of_a_large_request_is_no_line_twice(self):
        """Loki knows what it has in the block it is filling (256 KB). A larger repeat is held twice until the chunk is written,
        which metric queries count; the lines of a query are right at once."""
        loki = Loki().start(self)
        self.agent(loki.otlp, WITHOUT_QUEUE)
        bodies = [f"line {n} " + "x" * 300 for n in range(3000)]
        body = json.dumps({"resourceLogs": [service("shop", *map(record, bodies))]}).encode()
        for _ in range(2):
            status, said = self.post(body)
            self.assertEqual(status, 200, said)
        self.assertEqual(answers(loki, 204), 2)
        self.assertEqual(self.bodies(loki), bodies)

    def test_item_26_a_request_whose_answer_is_lost_is_stored_once(self):
        """The connection is cut when Loki has stored it and before it has said so; the agent sends it again."""
        loki = Loki().start(self)
        cutting = Cutting(loki)
        self.addCleanup(cutting.close)
        self.agent(f"http://127.0.0.1:{cutting.server_port}/otlp")
        status, said = self.send(service("shop", *(record(f"line {n}") for n in range(10))))
        self.assertEqual(status, 200, said)
        self.wait_until(lambda: answers(loki, 204) == 2, "it was sent again", [loki.process])
        self.assertEqual(self.bodies(loki), [f"line {n}" for n in range(10)])
        self.assert_stored_once(loki, 10)


class Cutting(ThreadingHTTPServer):
    """Passes requests on to Loki; the first answer is not passed back, the connection is closed instead."""

    def __init__(self, loki):
        self.cut = False
        passing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: self.headers[name] for name in ("Content-Type", "Content-Encoding") if self.headers[name]}
                request = urllib.request.Request(f"{loki.url}{self.path}", body, headers, method="POST")
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status = answer.status
                if not passing.cut:
                    passing.cut = self.close_connection = True
                    return
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
