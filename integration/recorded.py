"""The recording of real servers being broken, cut to the slices that tests want, and records as they come out.

Standard library only.
"""

import gzip
import json

from processes import ROOT

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
