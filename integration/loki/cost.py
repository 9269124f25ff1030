#!/usr/bin/env python3
"""What Harbinger costs: bytes in Loki for a million lines, with it and without it, and its own processor time and memory.

What enters: the recording, target/release/harbinger, target/integration/loki. What leaves: a Markdown table on standard output.
How: the recording is replayed twice at a steady rate through the agent into an empty Loki, in one run with `detection.mode: off`,
which passes every byte on as it came, in another judging; then Loki is stopped in order, which writes everything it holds, and what
lies on its disk is weighed. Promises: nothing is estimated, only scaled to a million lines; Loki, started anew on what was weighed,
has the lines. Deliberately absent: an opinion.

    cd integration && python3 -m loki.cost --speed 40x
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from loki_server import Loki
from processes import EXAMPLES, Stage, free_port, harbinger
from recorded import RECORDING, TRUTH

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Measured(Stage):
    """One run."""

    deadline_seconds = 3600

    def run(self, mode, speed):
        self.open_stage()
        try:
            return self.measure(mode, speed)
        finally:
            self.close_stage()

    def measure(self, mode, speed):
        loki = Loki("-ingester.flush-on-shutdown=true").start(self)
        port, health, metrics = free_port(), free_port(), free_port()
        settings = {
            "receivers.otlp.protocols.grpc.endpoint": f"localhost:{port}",
            "receivers.otlp.protocols.http.endpoint": f"localhost:{free_port()}",
            "extensions.health_check.endpoint": f"localhost:{health}",
            "extensions.harbinger_api.endpoint": f"127.0.0.1:{free_port()}",
            "extensions.harbinger_page.endpoint": "localhost:0",
            "extensions.file_storage.directory": self.dir / "queue",
            "processors.harbinger.state.directory": self.dir / "state",
            "processors.harbinger.detection.mode": mode,
            "service.telemetry.metrics.readers": "[{pull: {exporter: {prometheus: {host: localhost, port: %d}}}}]" % metrics,
        }
        command = [harbinger(), "run", "--config", str(EXAMPLES / "loki.yaml")]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        agent = self.start("harbinger", command, {"LOKI": loki.otlp})
        self.wait_for_health(health, agent)
        lines = json.loads(TRUTH.read_text(encoding="utf-8"))["records"]
        found = {}
        # First it learns, then it knows these logs.
        for number, name in enumerate(("learning", "knowing"), 1):
            before = processor_seconds(agent)
            subprocess.run(
                [harbinger(), "replay", str(RECORDING), "--to", f"http://localhost:{port}", "--speed", speed, "--now"],
                check=True, capture_output=True,
            )
            self.wait_until(lambda upto=number * lines: total(loki, "lines") >= upto, "Loki has every line", [loki.process, agent])
            found[name] = (processor_seconds(agent) - before) / lines
        found |= {
            "marked": judged(metrics, "anomalous"),
            "unjudged": judged(metrics, "degraded") + judged(metrics, "warming_up"),
            "resident": resident_bytes(agent, "VmRSS"),
            "peak": resident_bytes(agent, "VmHWM"),
        }
        if agent.kill(within=60) != 0:
            sys.exit(agent.words())
        found |= {
            "lines": total(loki, "lines"),
            "received": total(loki, "bytes"),
            "metadata": total(loki, "structured_metadata_bytes"),
        }
        if loki.process.kill(within=120) != 0:
            sys.exit(loki.process.words())
        found["chunks"] = size_of(loki.folder / "chunks" / "fake")
        found["index"] = size_of(loki.folder / "chunks" / "index")
        # Whether all of it has been weighed: asked of the chunks alone.
        shutil.rmtree(loki.folder / "wal")
        loki.start(self)
        found["stored"] = loki.count('{service_name=~".+"}', time.time() - 7_200, time.time() + 60)
        if found["stored"] < 0.999 * found["lines"]:
            sys.exit(f"only {found['stored']:,} of {found['lines']:,} lines are in the chunks")
        return found


def total(loki, what):
    """The sum of one of Loki's counters of what it has received."""
    return int(sum(loki.metrics(f"loki_distributor_{what}_received_total").values()))


def judged(port, verdict):
    """How many records the agent has let go with that verdict."""
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
    judged = [(series, value) for series, _, value in lines if series.startswith("harbinger_judged_log_records_total{")]
    return int(sum(float(value) for series, value in judged if f'verdict="{verdict}"' in series))


def size_of(folder):
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    if not sizes:
        sys.exit(f"there is nothing in {folder}")
    return sum(sizes)


def processor_seconds(process):
    """Of all its threads so far, in the program and in the kernel for it."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_bytes(process, name):
    for line in Path(f"/proc/{process.popen.pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} of {process.name}")


ROWS = (
    # What, of which figure, in units of so much, for a million lines or as it is.
    ("for a million lines: lines and metadata as Loki counts them, MB", "received", 1e6, True),
    ("of that structured metadata, MB", "metadata", 1e6, True),
    ("for a million lines: chunks on disk, MB", "chunks", 1e6, True),
    ("index on disk, as it is, KB", "index", 1e3, False),
    ("processor time of the agent for a line while it learns, µs", "learning", 1e-6, False),
    ("the same when it knows these logs, µs", "knowing", 1e-6, False),
    ("resident memory of the agent at the end, MB", "resident", 1e6, False),
    ("resident memory of the agent at its peak, MB", "peak", 1e6, False),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--speed", default="40x", help="how much faster than recorded (default 40x: 528 records a second)")
    options = parser.parse_args()
    without, judging = (Measured().run(mode, options.speed) for mode in ("off", "mark"))
    print(f"{without['lines']:,} lines without marks; {judging['lines']:,} with them and with what is said of incidents, of these")
    print(f"{judging['marked']:,} anomalous and {judging['unjudged']:,} without a verdict. Replayed twice at {options.speed}.\n")
    print("| | without marks | with them | more |\n| --- | --- | --- | --- |")
    for what, key, unit, scaled in ROWS:
        before, after = (run[key] / unit * (1e6 / without["lines"] if scaled else 1) for run in (without, judging))
        print(f"| {what} | {before:.1f} | {after:.1f} | {after - before:+.1f} |")


if __name__ == "__main__":
    main()
