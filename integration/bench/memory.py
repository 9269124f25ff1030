"""What the agent keeps in memory of templates, and how long it takes to start with them: a real agent taught made-up texts.

In:  how many templates; the agent, with its model; made-up log lines whose words differ, so that each is a template of its own.
Out: a table and a JSON object: resident memory idle, taught, at its peak; bytes a template; size of the snapshot; seconds from
     exec to the port, to readiness, and to the first verdict by what was learned before the restart.
Promises: memory is the kernel's count for the agent's process; all templates are embedded and a training has ended before it is
     read; bounds of the defaults (20,000 templates, 65,536 embeddings at hand) are raised only where more is asked for, and that is said.
Deliberately absent: overload, which is `chaos/soak.py`'s.

    cd integration && python3 bench/memory.py [--templates 10000] [--starts 5]
"""

import argparse
import http.client
import itertools
import json
import re
import statistics
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos import wire
from processes import Stage, detection, free_port, harbinger

CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
processors:
  harbinger:
    embedding: {{deadline: 1s, memo_capacity: {memo}}}
    detection: {{max_templates: {most}}}
    state: {{directory: {state}}}
exporters: {{file: {{path: {out}}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [harbinger], exporters: [file]}}}}
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}
"""
DEFAULT_TEMPLATES, DEFAULT_MEMO = 20_000, 65_536
RECORDS = 200
# Templates that may wait for the model: fewer than its queue takes.
QUEUED = 2000
# The lines tell of so long a time, so that most are known long enough to be trained on.
TOLD_SECONDS = 3600
SENTENCES = (
    "worker {0} finished the {1} of {2} in {n} ms",
    "cannot reach {1}: {0} did not answer {2} within {n} s",
    "{2} stored {n} rows for {0} of {1}",
    "session of {0} moved from {1} to {2} after {n} requests",
)
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstv" for vowel in "aeiou"]
# How long memory is looked at after the last training, for what is given back a little later.
SETTLE_SECONDS = 15


def words():
    """Words of three syllables that can be spoken, and nothing that masking takes for a value."""
    return ["".join(parts) for parts in itertools.product(SYLLABLES, repeat=3)]


def lines(count):
    """That many lines, each of a template of its own."""
    known = words()
    for index in range(count):
        sentence = SENTENCES[index % len(SENTENCES)]
        three = (known[(index * step + step) % len(known)] for step in (1, 7919, 104_729))
        yield sentence.format(*three, n=index % 977)


def request(texts, ago_seconds=0):
    """An ExportLogsServiceRequest of these texts."""
    now = time.time_ns() - int(ago_seconds * 1e9)
    records = b"".join(
        wire.block(wire.LOG_RECORDS, wire.fixed64(1, now + at) + wire.block(5, wire.text(text))) for at, text in enumerate(texts)
    )
    resource = wire.block(1, wire.block(1, wire.attribute(b"service.name", wire.text("words"))))
    return wire.block(wire.RESOURCE_LOGS, resource + wire.block(wire.SCOPE_LOGS, records))


class Memory(Stage):
    deadline_seconds = 4 * 3600

    def __init__(self, templates):
        self.templates = templates
        self.open_stage()
        self.http, self.health, self.metrics = free_port(), free_port(), free_port()
        self.config = self.dir / "agent.yaml"
        self.config.write_text(CONFIG.format(
            http=self.http, health=self.health, metrics=self.metrics, state=self.dir / "state", out=self.dir / "out.jsonl",
            most=max(DEFAULT_TEMPLATES, templates + 1000), memo=max(DEFAULT_MEMO, templates + 1000),
        ))
        self.agent = None

    def start_agent(self):
        """Starts the agent; seconds until its port is open, until it is ready, and until it says what it knows."""
        begun = time.monotonic()
        self.agent = self.start("harbinger", [harbinger(), "run", "--config", str(self.config)])
        self.wait_for_port(self.http, self.agent)
        listening = time.monotonic() - begun
        self.wait_for_health(self.health, self.agent)
        return listening, time.monotonic() - begun, begun

    def send(self, texts, ago_seconds=0):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=600)
        connection.request("POST", "/v1/logs", request(texts, ago_seconds), {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f"HTTP {answer.status}: {answer.read()[:200]}\n{self.agent.words()}")
        connection.close()

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=30) as page:
            found = re.search(rf"^harbinger_{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def status(self, key):
        """A figure of the process in MiB, as the kernel has it."""
        with open(f"/proc/{self.agent.popen.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(key + ":")) / 1024

    def settled(self):
        """Resident memory once what is free has been given back: the median of the last third of a look."""
        seen, until = [], time.monotonic() + SETTLE_SECONDS
        self.wait_until(lambda: seen.append(self.status("VmRSS")) or time.monotonic() > until, "memory was looked at", [self.agent])
        return statistics.median(seen[-len(seen) // 3 :])

    def teach(self):
        """All templates; returns once the model has read each, and there was a training."""
        every = list(lines(self.templates))
        for begin in range(0, len(every), RECORDS):
            self.send(every[begin : begin + RECORDS], TOLD_SECONDS * (1 - begin / self.templates))
            self.wait_until(lambda: self.metric("embedding_templates_total") > begin - QUEUED, "the model keeps up", [self.agent])
            if begin // RECORDS % 20 == 0:
                done = f"{begin + RECORDS:,} templates, {self.status('VmRSS'):.0f} MiB"
                print(f"\r{done}", end="", file=sys.stderr, flush=True)
        print("\r", end="", file=sys.stderr)
        self.every = every
        self.wait_until(
            lambda: self.metric("embedding_templates_total") >= self.metric("templates"), "all are embedded", [self.agent]
        )
        for _ in range(3):  # as much as a warm-up needs, however few templates there are
            self.send(every[:RECORDS])
        self.wait_until(lambda: detection(self.health)[1] == "ready", "a training has ended", [self.agent])

    def first_verdict(self, begun):
        """Seconds from exec until a record of a known text is judged by what was learned: its answer, with no verdict withheld."""
        path = self.dir / "out.jsonl"

        def judged():
            before = path.stat().st_size if path.exists() else 0
            self.send([self.every[0]])
            with open(path, "rb") as out:
                out.seek(before)
                said = out.read()
            return b"is_anomaly" in said and b"harbinger.verdict" not in said

        self.wait_until(judged, "a verdict by the restored snapshot", [self.agent])
        return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--templates", type=int, default=10_000)
    parser.add_argument("--starts", type=int, default=5, help="restarts with what was learned, of which medians are taken")
    options = parser.parse_args()
    run = Memory(options.templates)
    try:
        run.start_agent()
        run.send(["the first text"])
        run.wait_until(lambda: run.metric("embedding_templates_total") >= 1, "the model is loaded", [run.agent])
        idle = run.settled()
        run.teach()
        taught, known = run.settled(), run.metric("templates")
        peak, trainings = run.status("VmHWM"), run.metric("fits_total")
        run.agent.kill(within=120)
        snapshot = (run.dir / "state" / "snapshot").stat().st_size
        starts = []
        for _ in range(options.starts):
            listening, ready, begun = run.start_agent()
            starts.append((listening, ready, run.first_verdict(begun)))
            restarted = run.settled() if len(starts) == options.starts else 0
            run.agent.kill(within=120)
        listening, ready, verdict = (statistics.median(column) for column in zip(*starts))
        found = {
            "templates": int(known), "trainings": int(trainings),
            "idle_mib": round(idle, 1), "taught_mib": round(taught, 1), "peak_mib": round(peak, 1),
            "restarted_mib": round(restarted, 1),
            "bytes_a_template": round((taught - idle) * 2**20 / known), "snapshot_bytes_a_template": round(snapshot / known),
            "listening_s": round(listening, 3), "ready_s": round(ready, 3), "verdict_s": round(verdict, 3),
        }
        if options.templates + 1000 > DEFAULT_TEMPLATES:
            print(f"beyond the defaults: max_templates ({DEFAULT_TEMPLATES:,}), memo_capacity ({DEFAULT_MEMO:,}) are raised")
        for name, value in found.items():
            print(f"  {name:<28} {value:>12,}")
        print(json.dumps(found))
    finally:
        run.close_stage()


if __name__ == "__main__":
    main()
