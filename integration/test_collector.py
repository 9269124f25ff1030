"""Harbinger in the loop of a real OpenTelemetry Collector (built by collector/build.sh).

Guarantees, each on the very configurations in config-examples/ that users are given:

* loop-through: every line of a log file goes filelog -> Collector -> Harbinger -> the same
  Collector's second OTLP receiver -> file, and is there exactly once, its body unchanged, with a
  bool `is_anomaly`; also when the Collector is restarted on the way, but for repeats;
* failover: while Harbinger is stopped or killed logs keep flowing, none is lost, and they are judged
  again within seconds of its return;
* every Collector configuration in config-examples/ is one that the Collector accepts.

The `failover` connector is this repository's stand-in for contrib's (see collector/failover), so
these tests prove Harbinger's side of failing over, and that the configuration is sound; not
contrib's code.

Standard library only. Needs HARBINGER_BIN (default target/release/harbinger) and OTELCOL_BIN
(default target/integration/otelcol). No test is tried twice, and none waits by the clock.
"""

import gzip
import json
import signal
import subprocess
import time
import unittest
from collections import Counter

from processes import EXAMPLES, ProcessTest, Writer, free_port, harbinger, otelcol
from recorded import RECORDING, records_of

LINES_AT_LEAST = 20_000
LINE_NUMBER = "log.file.record_number"

# Lines that a careless hop would change, split, merge, drop or choke on.
AWKWARD = [
    " ",
    "\t",
    "\0",
    "a",
    "0",
    "null",
    "true",
    "-",
    " leading blank",
    "trailing blank ",
    "\t\ttabs\tinside and around\t",
    "inner\rcarriage return",
    'he said "no", and \'yes\'; back\\slash, \\n that is no newline, %s %d {} ${env:HOME} $$',
    '{"level":"error","msg":"json in a line","nested":{"a":[1,2.5,null,true,"x"]},"is_anomaly":true}',
    '{"level":"error","msg":"json that breaks off',
    "<14>1 2024-11-18T10:00:00Z host app - - [id@1 k=\"v\"] syslog",
    "is_anomaly=true incident_id=INC-1 harbinger.verdict=mine",
    "accents \u00e9\u00e8\u00fc\u00df, e\u0301 decomposed; \u65e5\u672c\u8a9e; \u0639\u0631\u0628\u064a; \U0001f525\U0001f469\u200d\U0001f680; zero\u200bwidth; \ufeffmark; \u2028line separator",
    "\u001b[31mred\u001b[0m bell\u0007 and other control characters \0\u0001\u0002\u007f\u0085",
    "replacement \ufffd character, private \ue000, last \U0010ffff",
    "=" * 500,
    "x " * 2_000,
    # Neighbours in one batch: together far more than the 4 MiB an OTLP receiver takes by default.
    *(f"long line {n} " + "0123456789abcdef" * 12_000 for n in range(30)),
    "very long line " + "\u00e4b" * 250_000,
]


def recorded_lines():
    """What real servers wrote (see recording/), as lines; made-up ones while there is no recording."""
    if not RECORDING.exists():
        services = ["orders", "billing", "gateway", "search"]
        for n in range(LINES_AT_LEAST):
            yield (
                f"2024-11-18 10:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03} INFO [{services[n % 4]}] "
                f"request {n * 7919 % 100_003:08x} from 10.0.{n % 256}.{n * 31 % 256} took {n * 37 % 991} ms"
            )
        return
    with gzip.open(RECORDING, "rt", encoding="utf-8") as f:
        for request in f:
            for record in records_of(json.loads(request)):
                # A record of several lines is several lines in a file. filelog skips empty lines, and
                # takes a carriage return at the end for part of the line end.
                yield from filter(None, (s.rstrip("\r") for s in body(record).split("\n")))


def corpus():
    """At least LINES_AT_LEAST lines: the recording, with the awkward ones spread through it."""
    lines = list(recorded_lines())
    while len(lines) < LINES_AT_LEAST:
        lines += lines
    step = len(lines) // 4
    for at in (3 * step, 2 * step, step, 0):
        lines[at:at] = AWKWARD
    return lines


def body(record):
    return record.get("body", {}).get("stringValue", "")


class Received:
    """What the file exporter has written so far, read on from where it was left.

    `records` are (number, body, attributes), the number being the line's in the log file, from 0;
    `times` says how often each number has come, `judged` how many records have a verdict."""

    def __init__(self, path):
        self.path, self.offset = path, 0
        self.records, self.times, self.judged = [], Counter(), 0

    def read(self):
        if not self.path.exists():
            return self
        with open(self.path, "rb") as f:
            f.seek(self.offset)
            new = f.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        # Not splitlines(): bodies hold characters that it takes for line ends.
        for request in filter(None, whole.split(b"\n")):
            for record in records_of(json.loads(request)):
                attributes = {a["key"]: a["value"] for a in record.get("attributes", [])}
                if len(attributes) != len(record.get("attributes", [])):
                    raise AssertionError(f"a record has an attribute twice: {record['attributes']}")
                number = int(attributes[LINE_NUMBER]["intValue"]) - 1
                self.records.append((number, body(record), attributes))
                self.times[number] += 1
                self.judged += judged(attributes)
        return self


def judged(attributes):
    return "boolValue" in attributes.get("is_anomaly", {})


class LoopTest(ProcessTest):
    """The two programs wired up as config-examples/ has it, on ports and folders of this test."""

    def setUp(self):
        super().setUp()
        # Asked for first: without the programs there is nothing to test.
        self.harbinger_bin, self.otelcol_bin = harbinger(), otelcol()
        self.log_file = self.dir / "app.log"
        self.received = Received(self.dir / "judged.jsonl")
        names = ("harbinger", "judged", "health", "metrics", "collector_health", "collector_metrics")
        self.ports = {name: free_port() for name in names}
        local = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.env = {
            "LOG_FILES": str(self.log_file),
            "OUTPUT_FILE": str(self.received.path),
            "HARBINGER_ENDPOINT": local["harbinger"],
            "HARBINGER_HEALTH_ENDPOINT": local["health"],
            "HARBINGER_STATE_DIR": str(self.dir / "harbinger-state"),
            "JUDGED_ENDPOINT": local["judged"],
            "COLLECTOR_HEALTH_ENDPOINT": local["collector_health"],
            "COLLECTOR_STATE_DIR": str(self.dir / "collector-state"),
            "HARBINGER_METRICS_PORT": str(self.ports["metrics"]),
            "COLLECTOR_METRICS_PORT": str(self.ports["collector_metrics"]),
        }
        (self.dir / "harbinger-state").mkdir()

    def start_harbinger(self):
        config = EXAMPLES / "harbinger-loop.yaml"
        p = self.start("harbinger", [self.harbinger_bin, "run", "--config", str(config)], self.env)
        self.wait_for_port(self.ports["harbinger"], p)
        self.wait_for_health(self.ports["health"], p)
        return p

    def start_collector(self, example):
        # Each line's number in its file goes along, so that a line and its repeat can be told from
        # two equal lines. Written to the output soon, so that waiting for it is short.
        command = [self.otelcol_bin, "--config", str(EXAMPLES / example)]
        command += ["--config", "yaml:receivers::file_log::include_file_record_number: true"]
        command += ["--config", "yaml:exporters::file::flush_interval: 100ms"]
        p = self.start("collector", command, self.env)
        self.wait_for_port(self.ports["judged"], p)
        self.wait_for_health(self.ports["collector_health"], p)
        return p

    def unjudged(self):
        return [number for number, _, attributes in self.received.records if not judged(attributes)]

    def assert_none(self, numbers, what):
        """No line is among those; said in few words, as there may be thousands."""
        numbers = sorted(numbers)
        if numbers:
            some = ", ".join(str(n + 1) for n in numbers[:10])
            words = "\n".join(p.words() for p in self.processes)
            self.fail(f"{len(numbers)} {what}: lines {some}{', ...' if len(numbers) > 10 else ''}\n{words}")

    def assert_complete(self, total):
        """Every line from 0 up to `total` has arrived, and nothing else has."""
        self.assert_none(set(range(total)) - self.received.read().times.keys(), "lines lost")
        self.assert_none(self.received.times.keys() - set(range(total)), "lines that nobody wrote")

    def assert_bodies(self, lines):
        """Each line that arrived has the body that was written under its number."""
        for number, text, _ in self.received.records:
            if text != lines(number):
                self.fail(f"line {number + 1} arrived changed: {text[:200]!r}, was {lines(number)[:200]!r}")


class LoopThrough(LoopTest):
    def test_every_line_arrives_once_unchanged_and_judged(self):
        """20,000 lines and more, awkward ones among them, through Collector, Harbinger, Collector."""
        self.assert_all_once("collector-loop.yaml")

    def test_so_it_does_with_failover(self):
        """The same in the failover set-up: while Harbinger is well, nothing goes past it, not even
        requests far larger than an OTLP receiver takes by default."""
        self.assert_all_once("collector-failover.yaml")

    def assert_all_once(self, example):
        lines = corpus()
        agent = self.start_harbinger()
        collector = self.start_collector(example)
        started = time.monotonic()
        self.log_file.write_bytes("".join(s + "\n" for s in lines).encode())
        self.wait_until(
            lambda: len(self.received.read().times) >= len(lines),
            f"all {len(lines)} lines have come round",
            needs=[agent, collector],
        )
        seconds = time.monotonic() - started
        # Whatever was still on its way (a repeat, say) is in the file once both have ended in order.
        self.assertEqual(collector.kill(signal.SIGTERM), 0, collector.words())
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())

        self.assert_complete(len(lines))
        self.assert_none([n for n, times in self.received.times.items() if times > 1], "came more than once")
        self.assert_bodies(lines.__getitem__)
        self.assert_none(self.unjudged(), "lack a bool is_anomaly")
        print(f"[{len(lines):,} lines in {seconds:.1f} s] ", end="", flush=True)

    def test_collector_restarted_on_the_way_loses_nothing(self):
        """The Collector ends and starts again in mid-stream: its queue on disk and Harbinger's
        refusals (nothing listens behind it meanwhile) leave no line behind. Some may come twice."""
        writer = Writer(self.log_file, plain_line)
        agent = self.start_harbinger()
        collector = self.start_collector("collector-loop.yaml")
        writer.start()
        self.addCleanup(writer.stop)
        self.wait_until(lambda: len(self.received.read().times) > 2_000, "the loop runs", [agent, collector])

        self.assertEqual(collector.kill(signal.SIGTERM), 0, collector.words())
        collector = self.start_collector("collector-loop.yaml")

        at_restart = writer.written
        self.wait_until(lambda: writer.written > at_restart + 2_000, "more has been written", [agent, collector])
        total = writer.stop()
        self.wait_until(
            lambda: len(self.received.read().times) >= total, f"all {total} lines have come round", [agent, collector]
        )
        self.assert_bodies(plain_line)
        self.assert_none(self.unjudged(), "lack a bool is_anomaly")
        repeats = len(self.received.records) - total
        print(f"[{total:,} lines, {repeats} repeated] ", end="", flush=True)


def plain_line(number):
    kinds = [
        f"GET /api/orders/{number} 200 {number % 90} ms",
        f"user {number % 500} logged in from 10.1.{number % 250}.{number % 199}",
        f"job {number:08x} finished, {number % 40} rows",
        f"cache miss for key session:{number}",
    ]
    return f"{kinds[number % len(kinds)]} seq={number}"


class Failover(LoopTest):
    def stop_and_return(self, how):
        writer = Writer(self.log_file, plain_line)
        agent = self.start_harbinger()
        collector = self.start_collector("collector-failover.yaml")
        writer.start()
        self.addCleanup(writer.stop)
        self.wait_until(lambda: self.received.read().judged > 2_000, "lines come back judged", [agent, collector])
        # More than can be through in a moment, so that requests are in flight at Harbinger's end.
        burst = writer.written
        writer.burst(30_000)
        self.wait_until(
            lambda: self.received.read().times.keys() and max(self.received.times) > burst + 100,
            "the burst comes through",
            [agent, collector],
        )

        agent.kill(how)
        # Lines from here on were written when Harbinger was gone for good. (One chunk may be half
        # way into the file, hence the next one.)
        gone = writer.written + 1_000
        self.wait_until(lambda: writer.written >= gone + 3_000, "more has been written", [collector])
        back = gone + 3_000
        self.wait_until(
            lambda: self.received.read().times.keys() >= set(range(back)),
            "all lines written before and after Harbinger's end have arrived",
            [collector],
        )
        self.assertEqual(
            sorted(n for n in self.unjudged() if gone <= n < back),
            list(range(gone, back)),
            "lines repeated, or judged by nobody",
        )

        agent = self.start_harbinger()
        returned, since = writer.written, time.monotonic()
        self.wait_until(
            lambda: any(
                n >= returned and judged(attributes) for n, _, attributes in self.received.read().records[-2_000:]
            ),
            "lines are judged again",
            [agent, collector],
        )
        seconds = time.monotonic() - since
        # One retry interval, and what gRPC takes to try a connection again that was refused.
        self.assertLess(seconds, 15, "it took too long until lines were judged again")
        judged_again = writer.written
        self.wait_until(lambda: writer.written > judged_again + 1_000, "more has been written", [agent, collector])

        total = writer.stop()
        self.wait_until(lambda: len(self.received.read().times) >= total, f"all {total} lines", [agent, collector])
        self.assertEqual(collector.kill(signal.SIGTERM), 0, collector.words())
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())
        self.assert_complete(total)
        self.assert_bodies(plain_line)
        self.assert_none([n for n in self.unjudged() if n >= judged_again], "left unjudged with Harbinger back")
        repeated = sorted(n for n, times in self.received.times.items() if times > 1)
        print(f"[{total:,} lines, 0 lost, {len(repeated)} repeated, judged again after {seconds:.1f} s] ", end="", flush=True)
        # A batch repeated at the end of Harbinger was in flight then; nothing later is excused.
        self.assert_none([n for n in repeated if n >= gone], "repeated without a reason")
        return repeated

    def test_stopped_in_order_loses_and_repeats_nothing(self):
        """SIGTERM in full stream: what Harbinger has taken it delivers and answers for, what it
        refuses goes the direct way, so no line is lost and none comes twice."""
        self.assert_none(self.stop_and_return(signal.SIGTERM), "repeated though Harbinger ended in order")

    def test_killed_loses_nothing(self):
        """SIGKILL in full stream: only the batch in flight, whose receipt is lost with the process,
        may come twice."""
        repeated = self.stop_and_return(signal.SIGKILL)
        self.assertLessEqual(len(repeated), 1_000, "more was repeated than can have been in flight")


class Examples(unittest.TestCase):
    def test_collector_accepts_its_examples(self):
        """`otelcol validate` on every Collector configuration users are given, as it stands."""
        examples = sorted(EXAMPLES.glob("collector-*.yaml"))
        self.assertTrue(examples, f"no Collector configuration in {EXAMPLES}")
        for example in examples:
            with self.subTest(example.name):
                done = subprocess.run(
                    [otelcol(), "validate", "--config", str(example)], capture_output=True, text=True, timeout=60
                )
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_harbinger_accepts_its_half_of_the_loop(self):
        """`harbinger validate` on the configuration that goes with the Collector's."""
        done = subprocess.run(
            [harbinger(), "validate", "--config", str(EXAMPLES / "harbinger-loop.yaml")],
            capture_output=True, text=True, timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
