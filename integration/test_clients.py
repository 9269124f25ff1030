"""OpenTelemetry's own SDKs (Python, Node, Rust) and a real Collector as clients of the agent.

Guarantees, for each of them:

* what a client was told is exported is at the destination, once the destination has had a bad time too;
* a destination that is away and comes back, an agent that has no place for more requests, and batches of many MiB;
* TLS, client certificates and bearer tokens: the right ones are let in, with any wrong one nothing passes;
* whatever an SDK can say reads back equal, by each of its protocols, but for the attributes that README tells of.

Node's gRPC exporter sends nothing again by itself (0.223: every error is a failure, whatever its code), so there the agent's
own retries within the caller's deadline must carry it. The others send again.

Tests of what this program does not have yet are skipped for as long as `harbinger validate` refuses their configuration.
Needs what `make integration-python`, `make integration-node`, `make integration-rust` and `make collector` install.
"""

import json
import re
import shutil
import subprocess
import sys
import time
import unittest

from chaos.agent import AGENT_HOST, HERE as CHAOS, Agent, Sink, refusal
from chaos.sink import Entries
from clients import certificates, rich
from loki_server import Loki
from processes import ROOT, ProcessTest, binary, harbinger, otelcol

CLIENTS = ROOT / "integration/clients"
PYTHON = (sys.executable, str(CLIENTS / "python_client.py"))
NODE = (shutil.which("node") or "node", str(CLIENTS / "node/client.mjs"))
RUST = "target/integration/rust/debug/harbinger-integration-client"
RECORD = re.compile(rb"<record (\d+-\d+)>")
TOKEN, WRONG_TOKEN = "a-token-that-is-right", "a-token-that-is-wrong"
TLS = [CLIENTS / "tls.yaml"]
ALL = [*TLS, CLIENTS / "mtls-and-token.yaml"]
IMPATIENT = ("exporters.otlp_grpc.retry_on_failure.enabled=false",)


class Clients(ProcessTest):
    deadline_seconds = 120

    def begin(self, over=(), sets=(), slow=None, environment=None):
        """Starts the destination and the agent."""
        certificates_here = certificates.make(self.dir / "certificates", AGENT_HOST)
        environment = {"CERTIFICATES": str(certificates_here), "TOKEN": TOKEN, **(environment or {})}
        words = refusal(over, environment) if over else None
        if words is not None:
            self.skipTest(f"the program refuses the configuration: {words}")
        self.certificates = certificates_here
        self.sink = Sink(self, *(("--slow", str(slow)) if slow else ()))
        self.entries, self.stored, self.turned_away = Entries(self.sink.journal), [], 0
        self.agent = Agent(self, self.sink, over, sets, environment)
        self.agent.start()

    def look(self):
        """Reads on in the destination's journal; returns the ids that it has stored."""
        for head, body in self.entries.new():
            self.turned_away += "turned_away" in head
            self.stored += [found.decode() for found in RECORD.findall(body)]
        return set(self.stored)

    def client(self, command, protocol, **options):
        """Starts an SDK's program."""
        address = self.agent.grpc if protocol == "grpc" else self.agent.http
        options = {"endpoint": address, "protocol": protocol, **options}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return self.start("client", [*command, *arguments])

    def outcome(self, client):
        """What an SDK's program said in the end: the ids that were exported, those that were not."""
        self.wait_until(lambda: not client.alive(), "the client is done", [self.agent.process, self.sink.process])
        if client.popen.returncode != 0:
            raise AssertionError(client.words())
        said = json.loads(client.log.read_text().splitlines()[-1])
        return set(said["exported"]), set(said["failed"])

    def collector(self, lines, client, token):
        """Starts a Collector that reads a file of so many lines."""
        log = self.dir / "app.log"
        log.write_text("".join(f"<record 0-{n}> user {n % 7} logged in\n" for n in range(lines)))
        environment = {
            "LOG_FILE": str(log), "AGENT_GRPC": self.agent.grpc, "CERTIFICATES": str(self.certificates),
            "CLIENT": client, "SENT_TOKEN": token,
        }
        return self.start("collector", [otelcol(), "--config", str(CLIENTS / "collector.yaml")], environment)


class Sdk:
    """The tests of one SDK; `command` starts it, `protocol` is what it speaks."""

    protocol = "grpc"
    sends_again = True
    over = ()

    def log(self, **options):
        """Starts the SDK's program, with certificates and the like by their names in the folder."""
        for name in ("ca", "cert", "key"):
            if name in options:
                options[name] = str(self.certificates / options[name])
        return self.client(self.command, self.protocol, **options)

    def assert_all(self, client, count):
        """Everything was exported, and is there."""
        exported, failed = self.outcome(client)
        self.assertFalse(failed, client.words())
        self.assertEqual(len(exported), count)
        self.assertEqual(self.look(), exported)

    def assert_nothing(self, client):
        """Nothing was exported, and nothing is there."""
        exported, failed = self.outcome(client)
        self.assertFalse(exported)
        self.assertTrue(failed, client.words())
        self.assertFalse(self.look())

    def test_plain_export(self):
        self.begin(self.over)
        self.assert_all(self.log(requests=5, records=20), 100)
        self.assertEqual(len(self.stored), 100, "none came twice")

    def test_the_destination_is_away_and_comes_back(self):
        """Nothing is lost: by the client's own retries, or, if it has none, by the agent's."""
        self.begin(self.over, IMPATIENT if self.sends_again and self.protocol == "grpc" else ())
        self.sink.turn("unavailable")
        client = self.log(records=20, timeout=20)
        self.wait_until(lambda: self.look() or self.turned_away, "a request has been turned away", [client])
        self.assertFalse(self.stored)
        self.sink.turn("well")
        self.assert_all(client, 20)

    def test_throttle(self):
        """One place at the agent, eight requests that want it: who comes too early is told when to come back."""
        over = f"receivers.otlp.protocols.{self.protocol.partition('/')[0]}.max_requests_in_flight=1"
        self.begin(self.over, [over], slow=0.2)
        client = self.log(requests=2, records=10, parallel=4, timeout=30)
        exported, failed = self.outcome(client)
        self.assertEqual(len(exported) + len(failed), 80)
        self.assertEqual(self.look(), exported, "what was not acknowledged was never taken, all else is there")
        if self.sends_again:
            self.assertFalse(failed, client.words())
        else:
            self.assertIn("too many requests", client.log.read_text(), "nobody was throttled")

    def test_a_large_batch(self):
        """One request of some 12 MiB, three times what OTLP receivers take by default."""
        self.begin(self.over)
        self.assert_all(self.log(records=20_000, padding=600, timeout=60), 20_000)


class Secured:
    """The tests of TLS and tokens, for clients of gRPC."""

    RIGHT = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key", "token": TOKEN}

    def test_tls(self):
        self.begin(TLS)
        self.assert_all(self.log(ca="ca.pem"), 10)

    def test_tls_of_a_server_that_the_client_does_not_trust(self):
        self.begin(TLS)
        self.assert_nothing(self.log(ca="stranger-ca.pem", timeout=3))

    def test_plain_text_where_tls_is_wanted(self):
        self.begin(TLS)
        self.assert_nothing(self.log(timeout=3))

    def test_certificate_and_token(self):
        self.begin(ALL)
        self.assert_all(self.log(**self.RIGHT), 10)

    def test_wrong_certificates_and_tokens(self):
        self.begin(ALL)
        without = {key: value for key, value in self.RIGHT.items() if key not in ("cert", "key")}
        wrong = {
            "no certificate": without,
            "a stranger's certificate": {**self.RIGHT, "cert": "stranger-client.pem", "key": "stranger-client.key"},
            "no token": {key: value for key, value in self.RIGHT.items() if key != "token"},
            "a wrong token": {**self.RIGHT, "token": WRONG_TOKEN},
            "a token cut short": {**self.RIGHT, "token": TOKEN[:-1]},
        }
        for name, options in wrong.items():
            with self.subTest(name):
                self.assert_nothing(self.log(**options, timeout=3))
        self.assert_all(self.log(**self.RIGHT), 10)
        self.assertNotIn(TOKEN, self.agent.process.log.read_text(), "the log has the token")
        self.assertNotIn(WRONG_TOKEN, self.agent.process.log.read_text(), "the log has a token")


class PythonByGrpc(Sdk, Secured, Clients):
    command = PYTHON


class PythonByHttp(Sdk, Clients):
    command = PYTHON
    protocol = "http/protobuf"
    over = (CHAOS / "http.yaml",)


class NodeByGrpc(Sdk, Secured, Clients):
    command = NODE
    sends_again = False


class NodeByHttp(Sdk, Clients):
    command = NODE
    protocol = "http/protobuf"
    over = (CHAOS / "http.yaml",)


class ReadBack(Clients):
    """Three SDKs by three protocols each into one agent that has learned what is usual, and what its destinations then hold."""

    deadline_seconds = 240
    PROTOCOLS = ("grpc", "http/protobuf", "http/json")
    # Resource attributes that config-examples/loki/loki.yaml makes index labels, as far as they come here.
    INDEX_LABELS = {"service_name", "service_namespace"}

    def learn(self):
        """Leaves a state to start from, so that records are judged and not merely learned from."""
        usual = self.dir / "usual.log"
        line = "2026-11-01 10:{:02}:{:02} INFO order {} was shipped\n"
        usual.write_text("".join(line.format(n // 60, n % 60, n) for n in range(1000)))
        learn = [harbinger(), "analyze", usual, "--out", self.dir / "out", "--save-snapshot", self.dir / "state"]
        subprocess.run(learn, cwd=ROOT, check=True, capture_output=True, timeout=60)

    def log_by_all(self):
        """Has each client log; returns what each was given, by the record's id."""
        rust = binary("RUST_CLIENT_BIN", RUST, "build it (make integration-rust)")
        given = {}
        for sdk, command in {"python": PYTHON, "node": NODE, "rust": (rust,)}.items():
            for protocol in self.PROTOCOLS:
                name, file = f"{sdk} {protocol}", self.dir / f"given-{len(given)}.json"
                request = rich.request(name, sdk, protocol, time.time_ns())
                file.write_text(json.dumps(request))
                given[name] = {rich.name_of(record)[1]: record for record in rich.flat(request)}
                exported, failed = self.outcome(self.client(command, protocol, given=file))
                self.assertFalse(failed)
                self.assertEqual(exported, given[name].keys())
        return given

    def test_equal_but_for_our_attributes(self):
        """In the bytes that a gRPC destination gets, in a file of OTLP JSON and, as far as it has a place for it, in Loki."""
        self.learn()
        out, loki = self.dir / "out.jsonl", Loki().start(self)
        began = time.time()
        self.begin([CHAOS / "queue.yaml", CLIENTS / "read-back.yaml"], environment={"OUT_FILE": str(out), "LOKI": loki.otlp})
        given = self.log_by_all()
        wanted = sum(map(len, given.values()))
        came = []

        def all_there():
            came.extend(record for _, body in self.entries.new() for record in rich.flat(rich.from_bytes(body)))
            return len(came) >= wanted

        self.wait_until(all_there, "all records are at the destination", [self.agent.process])
        # Not splitlines(): JSON leaves other ends of lines as they are.
        written = [record for line in out.read_text().split("\n") if line for record in rich.flat(json.loads(line))]
        for destination, records in {"bytes": came, "file": written}.items():
            self.assertEqual(len(records), wanted, f"{destination}: none is missing, none came twice")
            for record in records:
                client, id = rich.name_of(record)
                with self.subTest(destination=destination, client=client, record=id):
                    self.assert_equal_but_for_ours(record, given[client][id])
        of_all = {key for record in came for key in rich.without_ours(record)[1]}
        self.assertLessEqual(rich.OURS.keys() - {"harbinger.verdict"}, of_all, "nothing was anomalous")

        lines = lambda: loki.query('{service_namespace="rich"}', began - 60, time.time() + 60)  # noqa: E731
        self.wait_until(lambda: len(lines()) >= wanted, "all records are in Loki", [loki.process, self.agent.process])
        self.assert_in_loki(lines(), {rich.name_of(record): record for record in came})

    def assert_equal_but_for_ours(self, record, given):
        bare, ours = rich.without_ours(record)
        wanted, _ = rich.without_ours(given)
        odd = {field: (value, wanted[field]) for field, value in bare.items() if value != wanted[field]}
        self.assertFalse(odd, "what came, and what was given")
        self.assertIn("is_anomaly", ours)
        self.assertEqual({key: kind for key, (kind, _) in ours.items()}, {key: rich.OURS[key] for key in ours})

    def assert_in_loki(self, lines, records):
        """Loki has these records, each once."""
        self.assertEqual(len(lines), len(records))
        for line in lines:
            client, id = line.labels["service_name"], line.metadata["id"]
            with self.subTest(destination="Loki", client=client, record=id):
                at, body, labels, metadata = rich.in_loki(records.pop((client, id)), self.INDEX_LABELS)
                self.assertEqual(line.time, at)
                self.assertTrue(rich.written_by_loki(body, line.body), line.body)
                # Loki's own finding.
                line.metadata.pop("detected_level", None)
                for there, wanted in ((line.labels, labels), (line.metadata, metadata)):
                    self.assertEqual(there.keys(), wanted.keys())
                    odd = {key: text for key, text in there.items() if not rich.written_by_loki(wanted[key], text)}
                    self.assertFalse(odd)


class Collector(Clients):
    LINES = 500

    def test_certificate_and_token(self):
        self.begin(ALL)
        collector = self.collector(self.LINES, "client", TOKEN)
        wanted = {f"0-{n}" for n in range(self.LINES)}
        self.wait_until(lambda: self.look() >= wanted, "all lines are there", [collector, self.agent.process])
        self.assertEqual(set(self.stored), wanted)

    def test_a_wrong_token(self):
        self.begin(ALL)
        collector = self.collector(self.LINES, "client", WRONG_TOKEN)
        refused = lambda: "Unauthenticated" in collector.log.read_text()  # noqa: E731
        self.wait_until(refused, "the Collector is refused", [collector, self.agent.process])
        self.assertFalse(self.look())

    def test_a_stranger_s_certificate(self):
        self.begin(ALL)
        collector = self.collector(self.LINES, "stranger-client", TOKEN)
        refused = lambda: "Exporting failed" in collector.log.read_text()  # noqa: E731
        self.wait_until(refused, "the Collector is refused", [collector, self.agent.process])
        self.assertFalse(self.look())


if __name__ == "__main__":
    unittest.main(verbosity=2)
