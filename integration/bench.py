#!/usr/bin/env python3
"""A first measure of the hop: the recording through Harbinger and through a real Collector that only passes it on.

What enters: target/release/harbinger, target/integration/otelcol, the recording. What leaves: for each of several
interleaved rounds the seconds a replay at full speed took, their medians and the ratio. Both hops receive OTLP gRPC and
write OTLP JSON lines; Harbinger has learned before it is timed, so it judges every record. Deliberately absent: CPU
per record, latency, other request sizes; those come with the issue about speed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from processes import EXAMPLES, ROOT, Process, free_port, harbinger, otelcol

RECORDING = ROOT / "integration/recording/recording.jsonl.gz"
ROUNDS = 5
COLLECTOR = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "localhost:{port}", max_recv_msg_size_mib: 64}}}}}}}}
exporters: {{file: {{path: {out}}}}}
extensions: {{health_check: {{endpoint: "localhost:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], exporters: [file]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""


def wait_healthy(port, path="/", word=b""):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
                if word in answer.read():
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"nothing healthy on port {port} within 120 s")


def replay(port):
    started = time.monotonic()
    subprocess.run([harbinger(), "replay", str(RECORDING), "--to", f"http://localhost:{port}"], check=True, capture_output=True)
    return time.monotonic() - started


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ours, ours_health, theirs, theirs_health = (free_port() for _ in range(4))
        (folder / "collector.yaml").write_text(COLLECTOR.format(port=theirs, health=theirs_health, out=folder / "theirs.jsonl"))
        agent = Process("harbinger", [
            harbinger(), "run", "--config", str(EXAMPLES / "quickstart.yaml"),
            "--set", f"receivers.otlp.protocols.grpc.endpoint=localhost:{ours}",
            "--set", "receivers.otlp.protocols.http.endpoint=localhost:0",
            "--set", f"extensions.health_check.endpoint=localhost:{ours_health}",
            "--set", "extensions.harbinger_api.endpoint=127.0.0.1:0",
            "--set", f"exporters.file.path={folder / 'ours.jsonl'}",
            "--set", f"processors.harbinger.state.directory={folder / 'state'}",
            "--set", "service.telemetry.metrics.level=none",
        ], folder / "harbinger.log")
        collector = Process("otelcol", [otelcol(), "--config", str(folder / "collector.yaml")], folder / "otelcol.log")
        try:
            wait_healthy(ours_health)
            wait_healthy(theirs_health)
            replay(ours)
            wait_healthy(ours_health, "/detection", b'"ready"')
            replay(ours)
            seconds = [(replay(ours), replay(theirs)) for _ in range(ROUNDS)]
        finally:
            agent.kill()
            collector.kill()
    for name, column in (("harbinger, judging", 0), ("collector, passing on", 1)):
        taken = [pair[column] for pair in seconds]
        print(f"{name:<24} {statistics.median(taken):.2f} s median of {', '.join(f'{s:.2f}' for s in taken)}")
    print(f"ratio, median of rounds  {statistics.median(a / b for a, b in seconds):.2f}")


if __name__ == "__main__":
    main()
