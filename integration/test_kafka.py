"""Harbinger between topics of a real Apache Kafka, beside a real Collector.

Guarantees:

* what is in one topic comes out in another, byte for byte but for our attributes, once and in the order of its partition; each encoding
  means what it means to the Collector's own receiver; what is no OTLP is counted and holds up nothing;
* the Collector's exporter and receiver understand ours, in both encodings and with every compression;
* what Kafka has acknowledged is delivered whatever is killed, restarted or away; a record comes twice only where the offset behind it
  could not be committed, and never because an agent ended in order;
* a partition whose destination refuses it stands, the others go on, and nothing behind it is committed;
* TLS and SCRAM: who has the wrong password says so and delivers nothing.

Needs HARBINGER_BIN (default target/release/harbinger), OTELCOL_BIN (default target/integration/otelcol), Kafka (KAFKA_DIR, default
target/integration/kafka), Java 17 and target/integration/python.
"""

import base64
import itertools
import json
import signal
import time
import unittest
import urllib.request
from collections import defaultdict

from kafka_server import HOST, Kafka, Secured

from confluent_kafka import Producer
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import test_signals
from chaos import wire
from chaos.agent import Sink
from chaos.oracle import UNEXPLAINED
from chaos.schedule import Plan
from chaos.sink import CHOOSY, DISLIKED, Entries
from chaos.topics import Broken, Feed, Outcome
from clients import certificates, rich
from processes import ProcessTest, Stage, free_port, harbinger, otelcol
from recorded import requests_in

SEED = 11
IDS = ("traceId", "spanId", "parentSpanId")
USER, PASSWORD = "agent", "right-password"

# Retries so short that a test is quick.
SOON = {"initial_interval": "50ms", "max_interval": "300ms"}


class Shelter(Stage):
    """Where the Kafka lives that the tests share."""

    deadline_seconds = 900


def setUpModule():
    shelter = Shelter()
    shelter.open_stage()
    unittest.addModuleCleanup(shelter.close_stage)
    folder = certificates.make(shelter.dir / "certificates", HOST)
    KafkaTest.kafka = Kafka(shelter, secured=Secured(USER, PASSWORD, folder)).start()
    unittest.addModuleCleanup(KafkaTest.kafka.close)


class KafkaTest(ProcessTest):
    """A test with a Kafka of one node that it shares with the others; names of topics are its own."""

    deadline_seconds = 90

    def setUp(self):
        super().setUp()
        self.numbers = itertools.count()
        self.producer = Producer(self.kafka.client | {"acks": "all", "enable.idempotence": True})

    def topic(self, name, partitions=1):
        """A new topic; its full name."""
        name = f"{self._testMethodName}.{name}"
        self.kafka.create(name, partitions)
        return name

    def produce(self, topic, values, partition=None, headers=None):
        """Puts messages into a topic, and returns once Kafka has them; partition and headers are for all, or of the message's number."""
        of = lambda given, n: given(n) if callable(given) else given
        refused = []
        told = lambda error, _: error is not None and refused.append(error)
        for n, value in enumerate(values):
            where = {} if partition is None else {"partition": of(partition, n)}
            self.producer.produce(topic, value, headers=of(headers, n), on_delivery=told, **where)
        self.assertEqual((self.producer.flush(30), refused), (0, []))

    def receiver(self, topic, **settings):
        """A receiver's settings: `topic` of logs from the first message on; with more, or something else in their place."""
        return {
            "brokers": self.kafka.brokers, "group_id": "harbinger", "initial_offset": "earliest",
            "session_timeout": "3s", "heartbeat_interval": "500ms", "autocommit": {"interval": "200ms"},
            "logs": {"topics": [topic], "encoding": "otlp_proto"}, "error_backoff": SOON, **settings,
        }

    def exporter(self, topic, **settings):
        return {
            "brokers": self.kafka.brokers, "logs": {"topic": topic, "encoding": "otlp_proto"}, "retry_on_failure": SOON,
            **settings,
        }

    def agent(self, receivers, exporters, name="harbinger", mode="off", signals=("logs",), wait=True):
        """An agent with these receivers and exporters: the settings of one of type kafka, or {id: settings}."""
        by_id = lambda given: {"kafka": given} if "brokers" in given else given
        agent = Agent(self, name, by_id(receivers), by_id(exporters), mode, signals)
        agent.start(wait)
        return agent


class Agent:
    """One agent: its configuration, its process, its state, its metrics."""

    def __init__(self, test, name, receivers, exporters, mode, signals):
        self.test, self.name = test, name
        self.health, self.metrics = free_port(), free_port()
        folder = test.dir / f"{name}-{next(test.numbers)}"
        for settings in (*receivers.values(), *exporters.values()):
            if "brokers" in settings:
                settings.setdefault("client_id", name)
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.metrics}}}}
        pipeline = {"receivers": list(receivers), "exporters": list(exporters)}
        config = {
            "receivers": receivers,
            "processors": {"harbinger": {"detection": {"mode": mode}, "state": {"directory": str(folder)}}},
            "exporters": exporters,
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{self.health}"}},
            "service": {
                "extensions": ["health_check"],
                "pipelines": {one: pipeline | ({"processors": ["harbinger"]} if one == "logs" else {}) for one in signals},
                "telemetry": {"metrics": {"readers": [reader]}},
            },
        }
        self.config = test.dir / f"{folder.name}.json"
        self.config.write_text(json.dumps(config, indent=1))
        self.process = None

    def start(self, wait=True):
        """Starts it, or starts it again on what it kept."""
        self.process = self.test.start(self.name, [harbinger(), "run", "--config", str(self.config)])
        if wait:
            self.test.wait_for_health(self.health, self.process)

    def kill(self):
        self.process.kill(signal.SIGKILL)

    def end(self):
        """Ends it in order."""
        self.test.assertEqual(self.process.kill(signal.SIGTERM), 0, "SIGTERM is a clean end\n" + self.process.words())

    def log(self):
        return self.process.log.read_text(errors="replace")

    def metric(self, name, **labels):
        """The sum of a metric's series with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.split()[-1]) for line in lines
                   if line.startswith((name + "{", name + " ")) and all(one in line for one in wanted))


def message(request, kind=ExportLogsServiceRequest):
    """A request in OTLP JSON as the bytes of otlp_proto; ids are hex there, and base64 in protobuf's own JSON."""
    def ids(value):
        if isinstance(value, list):
            return [ids(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {key: base64.b64encode(bytes.fromhex(one)).decode() if key in IDS else ids(one) for key, one in value.items()}

    return ParseDict(ids(request), kind()).SerializeToString()


def said(text, service="shop", **record):
    """A request of one record."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {}, "logRecords": [{"body": {"stringValue": text}, **record}]}]}]}


def bodies(value):
    """What the records of a message say."""
    return [record["body"][1] for record in rich.flat(rich.from_bytes(value))]


class InAndOut(KafkaTest):
    def caught_up(self, topic):
        return self.kafka.lag("harbinger", topic) == 0

    def wait_for_records(self, reader, count, agent):
        """Until so many are in a topic, in as many messages as there may be; returns those."""
        there = lambda: sum(len(list(wire.records(one.value()))) for one in reader.read()) >= count
        self.wait_until(there, f"{count} records are in the topic", [agent.process])
        return reader.messages

    def test_every_record_comes_out_once_judged_in_the_order_of_its_partition(self):
        partitions, sizes = 3, [n % 40 + 1 for n in range(120)]
        came_in, went_out = self.topic("in", partitions), self.topic("out")
        sent = [wire.request(SEED, n, size, alone=False) for n, size in enumerate(sizes)]
        self.produce(came_in, sent, partition=lambda n: n % partitions)
        reader = self.kafka.reader(went_out)
        agent = self.agent(self.receiver(came_in), self.exporter(went_out), mode="mark")
        self.wait_for_records(reader, sum(sizes), agent)
        self.wait_until(lambda: self.caught_up(came_in), "all is committed", [agent.process])
        agent.end()
        came = [record for one in reader.read() for record in wire.records(one.value())]
        self.assertFalse([name for name, _, ours in came if b"is_anomaly" not in ours], "every record is judged")
        for partition in range(partitions):
            # Each once, in the order of the partition, as it was to the byte.
            wanted = [record[:2] for request in sent[partition::partitions] for record in wire.records(request)]
            of_it = [record[:2] for record in came if int(record[0].split("-")[0]) % partitions == partition]
            self.assertEqual(of_it, wanted)

    def test_initial_offset_says_where_a_new_group_begins(self):
        came_in, outs = self.topic("in"), {offset: self.topic(offset) for offset in ("earliest", "latest")}
        self.produce(came_in, [message(said(f"before {n}")) for n in range(10)])
        readers = {offset: self.kafka.reader(topic) for offset, topic in outs.items()}
        agents = [
            self.agent(self.receiver(came_in, group_id=f"group-{offset}", initial_offset=offset), self.exporter(topic), name=offset)
            for offset, topic in outs.items()]
        processes = [agent.process for agent in agents]
        words = {offset: lambda reader=reader: [text for one in reader.read() for text in bodies(one.value())]
                 for offset, reader in readers.items()}
        # Where «latest» is, is known only once something has come from there.
        count = itertools.count()

        def after():
            self.produce(came_in, [message(said(f"after {next(count)}"))])
            return words["latest"]()

        self.wait_until(after, "the later group has begun", processes)
        self.produce(came_in, [message(said("end"))])
        for offset in outs:
            self.wait_until(lambda: words[offset]()[-1:] == ["end"], f"{offset} is at the end", processes)
        every = [f"before {n}" for n in range(10)] + [f"after {n}" for n in range(next(count))] + ["end"]
        self.assertEqual(words["earliest"](), every)
        later = words["latest"]()
        self.assertEqual(later, every[-len(later):])
        self.assertTrue(later[0].startswith("after"), later[0])

    def test_one_resource_stays_on_one_partition(self):
        """And a message has the records of one of them."""
        services, rounds = [f"service-{n}" for n in range(12)], 10
        came_in, went_out = self.topic("in"), self.topic("out", 4)
        requests = [{"resourceLogs": [said(f"{r} {name}", name)["resourceLogs"][0] for name in services]} for r in range(rounds)]
        self.produce(came_in, [message(request) for request in requests])
        reader = self.kafka.reader(went_out)
        agent = self.agent(self.receiver(came_in), self.exporter(went_out, partition_logs_by_resource_attributes=True))
        places, words = defaultdict(set), defaultdict(list)
        for one in self.wait_for_records(reader, rounds * len(services), agent):
            self.assertIsNotNone(one.key())
            records = list(rich.flat(rich.from_bytes(one.value())))
            (name,) = {record["resource"]["service.name"][1] for record in records}
            places[name].add((one.partition(), one.key()))
            words[name] += [int(record["body"][1].split()[0]) for record in records]
        self.assertEqual(len(places), len(services))
        self.assertTrue(all(len(there) == 1 for there in places.values()), places)
        self.assertGreater(len({partition for ((partition, _),) in places.values()}), 1)
        self.assertTrue(all(order == list(range(rounds)) for order in words.values()), "in order, once")

    def test_headers_metadata_and_topics(self):
        """Headers become attributes of the resource and of the request, whence they go out again; a resource may name its topic."""
        came_in, went_out, other = self.topic("in"), self.topic("out"), self.topic("other")
        elsewhere = said("elsewhere")
        elsewhere["resourceLogs"][0]["resource"]["attributes"].append({"key": "topic", "value": {"stringValue": other}})
        headers = [("tenant", b"acme"), ("unheard", b"x")]
        self.produce(came_in, [message(said("here")), message(elsewhere)], headers=headers)
        agent = self.agent(
            self.receiver(came_in, header_extraction={"extract_headers": True, "headers": ["tenant"]}, include_metadata=True),
            self.exporter(went_out, include_metadata_keys=["tenant"], record_headers={"by": "harbinger"}, topic_from_attribute="topic"),
        )
        for topic, text in ((went_out, "here"), (other, "elsewhere")):
            (one,) = self.wait_for_records(self.kafka.reader(topic), 1, agent)
            (record,) = rich.flat(rich.from_bytes(one.value()))
            self.assertEqual(record["body"], ("stringValue", text))
            self.assertEqual(record["resource"]["kafka.header.tenant"], ("stringValue", "acme"))
            self.assertNotIn("kafka.header.unheard", record["resource"])
            self.assertEqual(sorted(one.headers()), [("by", b"harbinger"), ("tenant", b"acme")])

    def test_what_is_no_otlp_is_counted_and_skipped(self):
        came_in, went_out = self.topic("in"), self.topic("out")
        values = [message(said(str(n))) for n in range(5)]
        values[2:2] = [b"\xff\xff no protobuf \xff", b"\x0a\xff\xff\xff\xff\x0f"]
        self.produce(came_in, values, partition=0)
        reader = self.kafka.reader(went_out)
        agent = self.agent(self.receiver(came_in), self.exporter(went_out))
        messages = self.wait_for_records(reader, 5, agent)
        self.assertEqual([text for one in messages for text in bodies(one.value())], [str(n) for n in range(5)])
        self.wait_until(lambda: self.caught_up(came_in), "all is committed, what is no OTLP too", [agent.process])
        self.assertEqual(agent.metric("harbinger_kafka_receiver_unread_messages_total", receiver="kafka"), 2)
        self.assertIn(came_in, agent.log(), "the log says where")

    def test_a_request_larger_than_a_message_arrives_in_several(self):
        largest = 40_000
        came_in, went_out = self.topic("in"), self.topic("out")
        size = 600
        sent = [wire.request(SEED, n, size, alone=False) for n in range(3)]
        self.assertGreater(min(map(len, sent)), 2 * largest)
        self.produce(came_in, sent, partition=0)
        reader = self.kafka.reader(went_out)
        agent = self.agent(self.receiver(came_in), self.exporter(went_out, producer={"max_message_bytes": largest}))
        messages = self.wait_for_records(reader, 3 * size, agent)
        self.wait_until(lambda: self.caught_up(came_in), "all is committed", [agent.process])
        self.assertLessEqual(max(len(one.value()) for one in messages), largest)
        names = [name for one in messages for name, _, _ in wire.records(one.value())]
        self.assertEqual(names, [f"{n}-{m}" for n in range(3) for m in range(size)], "each once, in order")

    def test_traces_and_metrics_pass_as_they_are(self):
        unknown = wire.number(99, 1)
        given = {
            "traces": message(test_signals.spans(0, 20), ExportTraceServiceRequest) + unknown,
            "metrics": message(test_signals.metrics(1), ExportMetricsServiceRequest) + unknown,
            "logs": message(said("customer paid")),
        }
        ins, outs = ({name: self.topic(f"{name}-{way}") for name in given} for way in ("in", "out"))
        for name, value in given.items():
            self.produce(ins[name], [value])
        agent = self.agent(
            self.receiver("", **{name: {"topics": [topic], "encoding": "otlp_proto"} for name, topic in ins.items()}),
            self.exporter("", **{name: {"topic": topic, "encoding": "otlp_proto"} for name, topic in outs.items()}), signals=tuple(given))
        for name, topic in outs.items():
            reader = self.kafka.reader(topic)
            (one,) = self.wait_until(reader.read, f"{name} are in the topic", [agent.process])
            if name != "logs":
                self.assertEqual(one.value(), given[name], name)

    def test_the_wrong_password_and_an_unknown_authority_are_told_of_and_nothing_is_delivered(self):
        """The right password by TLS gets everything through."""
        folder = self.kafka.secured.certificates
        cases = {
            # Which side is wrong, with what, and what the log says of it.
            "right": (None, {}, None),
            "password-in": ("receiver", {"password": "wrong-password"}, "authentication"),
            "password-out": ("exporter", {"password": "wrong-password"}, "authentication"),
            "authority": ("receiver", {"ca_file": str(folder / "stranger-ca.pem")}, "certificate"),
        }
        agents, readers, ins = {}, {}, {}
        for name, (side, wrong, _) in cases.items():
            ins[name], out = self.topic(f"{name}-in"), self.topic(f"{name}-out")
            self.produce(ins[name], [message(said(f"{n}")) for n in range(20)])
            readers[name] = self.kafka.reader(out)
            secured = {one: self.secured(**(wrong if side == one else {})) for one in ("receiver", "exporter")}
            agents[name] = self.agent(self.receiver(ins[name], group_id=name, **secured["receiver"]),
                                      self.exporter(out, **secured["exporter"]), name=name)
        right = agents["right"]
        self.assertEqual(sum(len(bodies(one.value())) for one in self.wait_for_records(readers["right"], 20, right)), 20)
        self.wait_until(lambda: self.kafka.lag("right", ins["right"]) == 0, "all is committed", [right.process])
        for name, (_, _, word) in cases.items():
            if word:
                agent = agents[name]
                self.wait_until(lambda: word in agent.log().lower(), f"the log of {name} speaks of {word}", [agent.process])
                self.assertEqual((readers[name].read(), self.kafka.committed(name, ins[name])), ([], {}), name)
                self.assertNotIn("wrong-password", agent.log())
                self.assertTrue(agent.process.alive())

    def secured(self, password=PASSWORD, ca_file=None):
        authority = ca_file or str(self.kafka.secured.certificates / "ca.pem")
        sasl = {"username": USER, "password": password, "mechanism": "SCRAM-SHA-512"}
        return {"brokers": self.kafka.secured_brokers, "tls": {"ca_file": authority}, "auth": {"sasl": sasl}}

    def test_one_refused_message_holds_up_its_partition_only(self):
        partitions, blocked, before, each = 4, 0, 9, 60
        came_in = self.topic("in", partitions)
        sink, requests = Sink(self), []
        sink.turn(CHOOSY)
        for n in range(partitions * each):
            partition, number = n % partitions, n // partitions
            # So large that few of a partition go together.
            text = DISLIKED.decode() if (partition, number) == (blocked, before) else "fine"
            requests.append(message(said(f"{partition} {number} {text} " + "x" * 200_000)))
        self.produce(came_in, requests, partition=lambda n: n % partitions)
        to_sink = {"endpoint": f"http://{sink.grpc}", "timeout": "1s", "retry_on_failure": SOON}
        agent = self.agent({"kafka/in": self.receiver(came_in)}, {"otlp_grpc/sink": to_sink})
        entries, came, turned_away = Entries(sink.journal), defaultdict(list), []

        def arrived():
            """Reads on; returns how many have come of each partition."""
            for head, body in entries.new():
                turned_away.extend([head] * ("turned_away" in head))
                for text in bodies(body) if "stored" in head else ():
                    partition, number, *_ = text.split()
                    came[int(partition)].append(int(number))
            return {partition: len(came[partition]) for partition in range(partitions)}

        def but_for_one(counts):
            return [each if partition == blocked else counts.get(partition, 0) for partition in range(partitions)]

        everything = [each] * partitions
        processes = [agent.process, sink.process]
        self.wait_until(lambda: but_for_one(arrived()) == everything, "the other partitions are through", processes)
        committed = lambda: self.kafka.committed("harbinger", came_in) or {}
        self.wait_until(lambda: but_for_one(committed()) == everything, "the others are committed", processes)
        # It is offered again and again, which changes nothing.
        tried = len(turned_away)
        self.wait_until(lambda: arrived() and len(turned_away) >= tried + 3, "it is tried again", processes)
        through = lambda: len([n for n in came[blocked] if n < before])
        self.wait_until(lambda: committed().get(blocked, 0) == through(), "what was accepted before it is committed", processes)
        self.assertLessEqual(committed().get(blocked, 0), before, "nothing behind it is committed")
        self.assertLess(len(came[blocked]), each, "its partition stands")
        sink.turn("well")
        self.wait_until(lambda: sum(arrived().values()) >= partitions * each, "all is there", processes)
        self.wait_until(lambda: self.caught_up(came_in), "all is committed", processes)
        self.assertEqual({partition: sorted(numbers) for partition, numbers in came.items()},
                         {partition: list(range(each)) for partition in range(partitions)}, "each once")
        agent.end()


# What each encoding may find in a topic, the odd and the wrong too.
TEXTS = ("plain", "", " ", "Grüße 日本語 👩‍👩‍👧", "two\nlines\r\n", "tab\t nul\0 quote\" back\\slash", '{"looks": "like JSON"}',
         "x" * 5000)
JSON = (
    '{}', '{"a": "b"}', '{"n": 1, "big": 9007199254740993, "f": 1.5, "e": 1e300, "neg": -0.0, "t": true, "z": null}',
    '{"deep": {"list": [1, "two", [3], {"four": 4}, null], "empty": [], "map": {}}}', '{"ü": "日本", "esc": "\\u00e9\\ud83d\\ude00\\n"}',
    ' {"blank": "around"} ', '{"twice": 1, "twice": 2}',
    # No objects, or no JSON.
    '[1, 2]', '"text"', '17', 'null', '', '{"broken": ', '{"a": 1} trailing', "no json",
)
PAYLOADS = {
    "raw": [*(text.encode() for text in TEXTS), b"\xff\xfe\0 no UTF-8", bytes(range(256))],
    "text": [*(text.encode() for text in TEXTS), b"\xff\xfe no UTF-8", b"cut \xe2\x82"],
    "text_utf-8": [*(text.encode() for text in TEXTS), b"\xff\xfe no UTF-8"],
    "json": [text.encode() for text in JSON],
    "otlp_json": [b"{}", b"not even JSON", b'{"resourceLogs": 7}'],
    "otlp_proto": [b"", b"\xff no protobuf"],
}
# What every topic ends with, so that one knows when all before it has been read.
LAST = {"json": b'{"last": true}', "otlp_json": json.dumps(said("last")).encode(), "otlp_proto": message(said("last"))}


def exact(record, encoding, payload):
    """What we make of what the Collector makes of a payload: text that is no UTF-8 stays as it is, and so do whole numbers."""
    if encoding.startswith("text") and "\ufffd" in record["body"][1]:
        return record | {"body": ("bytesValue", payload)}
    if encoding == "json":
        return record | {"body": from_json(json.loads(payload))}
    return record


def unsigned(value):
    """The same with 0.0 for -0.0."""
    if isinstance(value, dict):
        return {key: unsigned(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [unsigned(one) for one in value]
    return "0.0" if value == "-0.0" else value


def more(records, encoding, payload):
    """What we take though the Collector does not: JSON that is no object."""
    try:
        value = json.loads(payload) if encoding == "json" else {}
    except ValueError:
        return []
    return [record | {"body": from_json(value)} for record in records[:1]] if not isinstance(value, dict) else []


def from_json(value):
    """JSON as a value of OTLP, in the form of rich.plain."""
    if isinstance(value, dict):
        return "kvlistValue", {key: from_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return "arrayValue", [from_json(one) for one in value]
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue", type(None): "empty"}
    kind = kinds[type(value)]
    return kind, repr(value) if kind == "doubleValue" else value


class WithTheCollector(KafkaTest):
    """Beside the Collector's own receiver and exporter."""

    def collector(self, receivers, exporters, pipelines):
        """`pipelines`: {name: (receivers, exporters)}, all of logs."""
        config = {
            "receivers": receivers, "exporters": exporters,
            "service": {
                "pipelines": {f"logs/{name}": {"receivers": list(ways[0]), "exporters": list(ways[1])} for name, ways in pipelines.items()},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        path = self.dir / "collector.json"
        path.write_text(json.dumps(config, indent=1))
        return self.start("collector", [otelcol(), "--config", str(path)])

    def file(self, name):
        return {"path": str(self.dir / name), "flush_interval": "100ms"}

    def test_every_encoding_means_what_it_means_to_the_collector(self):
        """The same topics by both receivers: the same records, but for the time at which they were observed."""
        topics, receivers = {}, {}
        extraction = {"extract_headers": True, "headers": ["case"]}
        given = {name: list(payloads) for name, payloads in PAYLOADS.items()}
        everything = rich.request("rich", None, None, time.time_ns())
        given["otlp_json"].append(json.dumps(everything).encode())
        given["otlp_proto"].append(message(everything))
        for encoding, payloads in given.items():
            topics[encoding] = self.topic(encoding)
            last = LAST.get(encoding, b"last")
            self.produce(topics[encoding], [*payloads, last], headers=lambda n: [("case", f"{encoding} {n}".encode())])
            receivers[f"kafka/{encoding}"] = self.receiver(
                topics[encoding], logs={"topics": [topics[encoding]], "encoding": encoding}, header_extraction=extraction)
        theirs = {id: settings | {"group_id": "collector"} for id, settings in receivers.items()}
        collector = self.collector(theirs, {"file": self.file("collector.jsonl")}, {"all": (theirs, ["file"])})
        agent = self.agent(receivers, {"file/out": {"path": str(self.dir / "harbinger.jsonl")}})
        for group in ("collector", "harbinger"):
            for topic in topics.values():
                self.wait_until(lambda: self.kafka.lag(group, topic) == 0, f"{group} has read {topic}", [collector, agent.process])
        found = {}
        for who in ("collector", "harbinger"):
            path = self.dir / f"{who}.jsonl"
            cases = lambda: self.by_case(path)
            ends = [f"{encoding} {len(payloads)}" for encoding, payloads in given.items()]
            self.wait_until(lambda: cases().keys() >= set(ends), f"all ends are in the file of {who}", [collector, agent.process])
            found[who] = cases()
        for encoding, payloads in given.items():
            for n, payload in enumerate((*payloads, LAST.get(encoding, b"last"))):
                case = f"{encoding} {n}"
                ours, theirs = (found[who].get(case, []) for who in ("harbinger", "collector"))
                wanted = [exact(record, encoding, payload) for record in theirs] or more(ours, encoding, payload)
                with self.subTest(case, payload=payload[:80]):
                    if encoding.startswith("otlp"):
                        # The file of the Collector has no sign on a zero.
                        ours, wanted = unsigned(ours), unsigned(wanted)
                    self.assertEqual(ours, wanted)

    def by_case(self, path):
        """Of a file of OTLP JSON the records by their case, without what differs from run to run, and without our attributes."""
        found = defaultdict(list)
        for request in requests_in(path):
            for record in rich.flat(request):
                bare, _ = rich.without_ours(record)
                (case,) = [value for key, value in bare["resource"].items() if key == "kafka.header.case"]
                if not case[1].startswith("otlp"):
                    bare.pop("observedTimeUnixNano")
                found[case[1]].append(bare)
        return found

    def test_its_exporter_our_receiver_our_exporter_its_receiver(self):
        """In both encodings, with every compression on both ways, every record is there once and equal."""
        ways = {"none": "otlp_json", "gzip": "otlp_proto", "snappy": "otlp_json", "lz4": "otlp_proto", "zstd": "otlp_json", "zstd-2": "otlp_proto"}
        http = free_port()
        receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}}}}
        exporters, pipelines, agents, backs, rounds = {"file/went": self.file("went")}, {}, [], {}, 10
        to_agents = ["file/went"]
        for way, encoding in ways.items():
            compression = {"compression": way.split("-")[0]}
            there, back = self.topic(f"{way}-there"), self.topic(f"{way}-back", 2)
            backs[way] = there, back
            exporters[f"kafka/{way}"] = {
                "brokers": self.kafka.brokers, "logs": {"topic": there, "encoding": encoding}, "sending_queue": {"enabled": False},
                "producer": compression}
            to_agents.append(f"kafka/{way}")
            exporters[f"file/{way}"] = self.file(f"came-{way}")
            other = "otlp_json" if encoding == "otlp_proto" else "otlp_proto"
            receivers[f"kafka/{way}"] = self.receiver(back, group_id="collector", logs={"topics": [back], "encoding": other})
            pipelines[way] = [f"kafka/{way}"], [f"file/{way}"]
            agents.append(self.agent(
                self.receiver(there, group_id=way, logs={"topics": [there], "encoding": encoding}),
                self.exporter(back, logs={"topic": back, "encoding": other}, producer=compression), name=way, wait=False))
        collector = self.collector(receivers, exporters, pipelines | {"in": (["otlp"], to_agents)})
        self.wait_for_port(http, collector)
        for n in range(rounds):
            body = json.dumps(rich.request(f"client-{n}", None, None, time.time_ns())).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{http}/v1/logs", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.assertEqual(answer.status, 200)
        records = lambda name: [rich.without_ours(one)[0] for request in requests_in(self.dir / name) for one in rich.flat(request)]
        processes = [collector, *(agent.process for agent in agents)]
        self.wait_until(lambda: len(requests_in(self.dir / "went")) == rounds, "the Collector has written what went", processes)
        went = {rich.name_of(one): one for one in records("went")}
        for way, (there, back) in backs.items():
            self.wait_until(lambda: len(records(f"came-{way}")) >= len(went), f"all is back by {way}", processes)
            came = records(f"came-{way}")
            self.assertEqual(len(came), len(went), way)
            for one in came:
                with self.subTest(way, record=rich.name_of(one)):
                    self.assertEqual(one, went[rich.name_of(one)])
            for topic in (there, back):
                self.assertEqual(set(self.kafka.compressions(topic)), {way.split("-")[0]}, topic)


class LosingNothing(KafkaTest):
    """Agents of one group, and a feed that goes on whatever happens to them."""

    deadline_seconds = 150
    PARTITIONS = 6

    def feed(self, kafka, topic, per_second=60, requests=9000):
        """Requests of up to twenty records into a topic; returns once some are there."""
        plan = Plan(SEED, tuple(n * 7 % 20 + 1 for n in range(requests)), ())
        feed = Feed(kafka, topic, plan, per_second)
        feed.start()
        self.addCleanup(feed.stopped.set)
        return feed

    def wait_for_group(self, kafka, agents, topic):
        """Until these, and nobody else, share the partitions."""
        names = sorted(agent.name for agent in agents)

        def shared():
            members = kafka.members("harbinger") or {}
            return sorted(members) == names and all(members.values())

        self.wait_until(shared, f"{' and '.join(names)} share the partitions", [agent.process for agent in agents])

    def wait_past(self, kafka, topic, ends, agents):
        """Until the group has committed all that was there."""

        def past():
            committed = kafka.committed("harbinger", topic)
            return committed is not None and all(committed.get(one, 0) >= end for one, end in ends.items())

        self.wait_until(past, "what was there is committed", [agent.process for agent in agents])

    def finish(self, kafka, feed, outcome, agents, topic, broken):
        """All there, all committed, all ended; returns the copies by cause."""
        feed.stop()
        self.assertEqual(len(feed.places), feed.sent, "Kafka has acknowledged everything in the end")
        processes = [agent.process for agent in agents]
        self.wait_until(outcome.all_there, "all that Kafka acknowledged is there", processes)
        self.wait_until(lambda: kafka.lag("harbinger", topic) == 0, "all is committed", processes)
        for agent in agents:
            agent.end()
        outcome.arrived()
        self.assertEqual((outcome.oracle.missing(), outcome.oracle.changed), ([], []))
        copies = outcome.copies(broken)
        told = ", ".join(f"{count} by {what}" for what, count in copies.items())
        print(f"[{outcome.arrived():,} records, 0 missing, copies: {told or 'none'}] ", end="", flush=True)
        return copies

    def test_an_agent_that_ends_in_order_leaves_no_copies(self):
        """Nor do a group that grows and one that shrinks."""
        kafka = self.kafka
        came_in, went_out = self.topic("in", self.PARTITIONS), self.topic("out", 2)
        agents = [self.agent(self.receiver(came_in), self.exporter(went_out), name=name, wait=False) for name in ("a", "b")]
        feed = self.feed(kafka, came_in)
        outcome = Outcome(feed, kafka.reader(went_out))
        self.wait_for_group(kafka, agents, came_in)
        for agent in agents:
            before = outcome.arrived()
            self.wait_until(lambda: outcome.arrived() > before + 200, "records come out", [one.process for one in agents])
            agent.end()
            ends = kafka.ends(came_in)
            others = [one for one in agents if one is not agent]
            self.wait_past(kafka, came_in, ends, others)
            agent.start()
            self.wait_for_group(kafka, agents, came_in)
        copies = self.finish(kafka, feed, outcome, agents, came_in, [])
        self.assertFalse(copies)

    def test_kills_rebalances_and_kafka_away(self):
        """Three nodes, three agents that judge: killed, joined, ended, a node restarted, all of Kafka killed."""
        kafka = Kafka(self, nodes=3).start()
        self.addCleanup(kafka.close)
        came_in, went_out = "in", "out"
        kafka.create(came_in, self.PARTITIONS)
        kafka.create(went_out, 3)
        of = lambda settings: settings | {"brokers": kafka.brokers}
        a, b, c = agents = [Agent(self, name, {"kafka": of(self.receiver(came_in))}, {"kafka": of(self.exporter(went_out))}, "mark", ("logs",))
                            for name in "abc"]
        a.start(), b.start()
        feed = self.feed(kafka, came_in)
        outcome = Outcome(feed, kafka.reader(went_out))
        broken = []

        def breaks(what, agents, do):
            """Does it; afterwards the group has committed all that was there by then, so that causes do not overlap."""
            self.wait_until(lambda: kafka.committed("harbinger", came_in) is not None, "Kafka answers")
            committed = kafka.committed("harbinger", came_in)
            do()
            self.wait_until(lambda: kafka.ends(came_in) is not None, "Kafka answers")
            ends = kafka.ends(came_in)
            broken.append(Broken(what, committed, ends))
            self.wait_past(kafka, came_in, ends, agents)

        self.wait_for_group(kafka, [a, b], came_in)
        self.wait_until(lambda: outcome.arrived() > 500, "records come out", [a.process, b.process])
        c.start()
        self.wait_for_group(kafka, agents, came_in)
        self.wait_past(kafka, came_in, kafka.ends(came_in), agents)
        breaks("an agent killed", [b, c], a.kill)
        a.start()
        self.wait_for_group(kafka, agents, came_in)
        b.end()
        self.wait_for_group(kafka, [a, c], came_in)
        b.start()
        self.wait_for_group(kafka, agents, came_in)
        node = kafka.nodes[0]
        breaks("a node restarted", agents, lambda: (node.process.kill(), kafka.start()))
        breaks("Kafka killed", agents, lambda: (kafka.stop(signal.SIGKILL), kafka.start()))
        self.wait_for_group(kafka, agents, came_in)
        breaks("two agents killed", [c], lambda: (a.kill(), b.kill()))
        a.start(), b.start()
        self.wait_for_group(kafka, agents, came_in)
        copies = self.finish(kafka, feed, outcome, agents, came_in, broken)
        self.assertEqual(copies[UNEXPLAINED], 0, copies)

    def test_an_otlp_destination_that_fails(self):
        """It refuses, hangs and cuts connections, an agent is killed in between: all is there, and each copy has a cause."""
        kafka = self.kafka
        came_in = self.topic("in", self.PARTITIONS)
        sink = Sink(self)
        to_sink = {"endpoint": f"http://{sink.grpc}", "timeout": "1s", "retry_on_failure": SOON}
        agents = [self.agent({"kafka/in": self.receiver(came_in)}, {"otlp_grpc/sink": to_sink}, name=name) for name in "abc"]
        feed = self.feed(kafka, came_in)
        oracle = Outcome(feed, None, sink.journal)
        self.wait_for_group(kafka, agents, came_in)
        kills = []
        for n, mode in enumerate(("unavailable", "hanging", "cutting", "absent")):
            before = oracle.arrived()
            self.wait_until(lambda: oracle.arrived() > before + 200, "records come out", [one.process for one in agents])
            sink.turn(mode)
            sent = feed.sent
            self.wait_until(lambda: feed.sent > sent + 60, "the feed goes on", [one.process for one in agents])
            if n % 2:
                agents[n // 2].kill()
                kills.append(time.monotonic())
                agents[n // 2].start()
            sink.turn("well")
        feed.stop()
        processes = [agent.process for agent in agents]
        self.wait_until(oracle.all_there, "all that Kafka acknowledged is there", processes)
        self.wait_until(lambda: kafka.lag("harbinger", came_in) == 0, "all is committed", processes)
        for agent in agents:
            agent.end()
        oracle.arrived()
        found = oracle.oracle.findings(kills)
        told = ", ".join(f"{count}: {cause}" for cause, count in found.duplicates.items())
        print(f"[{found.arrived:,} records, 0 missing; copies: {told or 'none'}] ", end="", flush=True)
        self.assertTrue(found.sound, found)


if __name__ == "__main__":
    unittest.main(verbosity=2)
