"""The recording of real servers being broken, cut to the slices that tests want, an agent it is replayed through, and records as they come out.

Standard library only.
"""

import gzip
import json
import subprocess

from processes import EXAMPLES, ROOT, ProcessTest, free_port, harbinger

RECORDING = ROOT / "integration/recording/recording.jsonl.gz"
TRUTH = ROOT / "integration/recording/truth.json"

# What the agent says of incidents itself, by the way of the records.
EVENTS = "harbinger.incidents"


def requests_in(path):
    """The requests that a program has written to a file so far, one a line; the last line may not be whole yet."""
    written = path.read_bytes() if path.exists() else b""
    # Not splitlines(): bodies hold characters that it takes for line ends.
    return [json.loads(line) for line in written[: written.rfind(b"\n") + 1].split(b"\n") if line]


def attributes(record):
    return {item["key"]: next(iter(item["value"].values()), None) for item in record.get("attributes", [])}


def records_of(request):
    """The records of others: not the agent's own events."""
    for resource in request.get("resourceLogs", []):
        for scope in resource.get("scopeLogs", []):
            if scope.get("scope", {}).get("name") != EVENTS:
                yield from scope.get("logRecords", [])


def events_of(request):
    """The agent's events of incidents."""
    for resource in request.get("resourceLogs", []):
        for scope in resource.get("scopeLogs", []):
            if scope.get("scope", {}).get("name") == EVENTS:
                yield from scope["logRecords"]


def seconds(time):
    """A time of the truth, in seconds since 1970."""
    return int(time["unixNano"]) / 1e9


def fault(name):
    """When the fault of that name began and ended."""
    faults = json.loads(TRUTH.read_text(encoding="utf-8"))["faults"]
    found = next(fault for fault in faults if fault["name"] == name)
    return seconds(found["start"]), seconds(found["end"])


def slice_of(path, start, end):
    """Writes the recording's requests whose first record lies in [start, end) to a file; returns how many records."""
    count = 0
    with gzip.open(RECORDING, "rt", encoding="utf-8") as lines, open(path, "w", encoding="utf-8") as out:
        for line in lines:
            records = list(records_of(json.loads(line)))
            if start <= int(records[0]["timeUnixNano"]) / 1e9 < end:
                out.write(line)
                count += len(records)
    return count


class ReplayTest(ProcessTest):
    """A test with an agent as in quickstart.yaml, on ports and in a folder of its own."""

    def start_agent(self, *settings, environment=None):
        """Starts it, or starts it again on what it kept; what comes out is in `judged.jsonl`."""
        self.port, self.health, self.api, self.page_port = free_port(), free_port(), free_port(), free_port()
        settings = (
            f"receivers.otlp.protocols.grpc.endpoint=localhost:{self.port}",
            "receivers.otlp.protocols.http.endpoint=localhost:0",
            f"extensions.health_check.endpoint=localhost:{self.health}",
            f"extensions.harbinger_api.endpoint=127.0.0.1:{self.api}",
            f"extensions.harbinger_page.endpoint=localhost:{self.page_port}",
            f"exporters.file.path={self.dir / 'judged.jsonl'}",
            f"processors.harbinger.state.directory={self.dir / 'state'}",
            "service.telemetry.metrics.level=none",
            *settings,
        )
        command = [harbinger(), "run", "--config", str(EXAMPLES / "quickstart.yaml")]
        process = self.start("harbinger", [*command, *(part for each in settings for part in ("--set", each))], environment)
        self.wait_for_health(self.health, process)
        return process

    def replay(self, name, start, end, speed="max"):
        """Replays the recording's requests whose first record lies in [start, end), by a file of that name; returns how many records."""
        path = self.dir / name
        count = slice_of(path, start, end)
        command = [harbinger(), "replay", str(path), "--to", f"http://localhost:{self.port}", "--speed", speed]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return count
