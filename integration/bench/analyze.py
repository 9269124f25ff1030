#!/usr/bin/env python3
"""How long `harbinger analyze` takes over a million lines of some 1,250 templates, and what it needs meanwhile.

What enters: target/release/harbinger, and our own recording, which is said again and again with later times, other
numbers, and made-up names behind its sentences, so that there are more templates. What leaves: for each of several runs
wall seconds, CPU seconds and peak memory, their medians and lines a second, as text on standard error and as JSON on
standard output. The recording's five faults happen once, in its first 39 minutes, and what follows is its healthy lines;
with `--faults every-round` they happen every 39 minutes for a day, which makes the engine train much more often. Promises: the same input every time (a seed); a run counts only if it wrote every line. Deliberately
absent: comparison with anything, and a disk that is slower than the page cache.

    python3 integration/bench/analyze.py --lines 1000000 --runs 3 --format csv > analyze.json
"""

import argparse
import csv
import datetime
import gzip
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from processes import ROOT, harbinger

RECORDING = ROOT / "integration/recording/recording.jsonl.gz"
TRUTH = ROOT / "integration/recording/truth.json"
# A fault's last lines may come when it is over.
AFTERMATH_NS = 30 * 10**9
# With the 200 or so templates of the recording this makes some 1,250.
NAMES = ["", "velto", "quarn", "ombrix", "tesselo", "gralind"]
# Long enough to be no status or port: what the mask takes out anyway.
NUMBER = re.compile(r"(?<![\w.:/-])\d{4,}(?![\w.:/-])")
COLUMNS = ["timestamp", "service", "severity", "message", "trace_id"]


def recorded():
    """The recording's records as (nanoseconds, service, severity, body, trace id), in order of time."""
    records = []
    with gzip.open(RECORDING, "rt", encoding="utf-8") as lines:
        for line in lines:
            for resource in json.loads(line)["resourceLogs"]:
                attributes = {a["key"]: a["value"].get("stringValue", "") for a in resource["resource"]["attributes"]}
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        body = record["body"]["stringValue"]
                        at = int(record["timeUnixNano"])
                        severity = record.get("severityText", "")
                        records.append((at, attributes["service.name"], severity, body, record.get("traceId", "")))
    return sorted(records, key=lambda record: record[0])


def healthy(records):
    """The records outside the faults."""
    faults = json.loads(TRUTH.read_text(encoding="utf-8"))["faults"]
    windows = [(int(fault["start"]["unixNano"]), int(fault["end"]["unixNano"]) + AFTERMATH_NS) for fault in faults]
    return [record for record in records if not any(start <= record[0] <= end for start, end in windows)]


def varied(count, faults):
    """So many records: the recording over and over, each time later and with other numbers, names and ids."""
    random_ = random.Random(7)
    records = recorded()
    span = records[-1][0] - records[0][0] + 10**9
    later = records if faults == "every-round" else healthy(records)
    rounds = itertools.chain([records], itertools.repeat(later))
    endless = ((round_, record) for round_, some in enumerate(rounds) for record in some)
    for round_, (at, service, severity, body, trace) in itertools.islice(endless, count):
        body = NUMBER.sub(lambda found: str(random_.randrange(10 ** (len(found[0]) - 1), 10 ** len(found[0]))), body)
        name = random_.choice(NAMES)
        first, *rest = body.split("\n")
        body = "\n".join([f"{first} ({name})" if name else first, *rest])
        trace = f"{int(trace, 16) ^ round_:032x}" if trace else ""
        yield at + round_ * span, service, severity, body, trace


def rfc3339(nanoseconds):
    at = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


def write_csv(path, records):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for at, *cells in records:
            writer.writerow([rfc3339(at), *cells])


def write_text(path, records):
    with open(path, "w", encoding="utf-8") as file:
        for at, service, severity, body, _ in records:
            file.write(f"{rfc3339(at)} {severity} {service}: {body}\n")


def write_otlp(path, records):
    def written(request):
        by_service = {}
        for service, record in request:
            by_service.setdefault(service, []).append(record)
        resources = [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeLogs": [{"scope": {}, "logRecords": some}],
            }
            for service, some in by_service.items()
        ]
        return json.dumps({"resourceLogs": resources}, ensure_ascii=False) + "\n"

    with open(path, "w", encoding="utf-8") as file:
        request = []
        for at, service, severity, body, trace in records:
            record = {"timeUnixNano": str(at), "severityText": severity, "body": {"stringValue": body}}
            request.append((service, record | ({"traceId": trace} if trace else {})))
            if len(request) == 200:
                file.write(written(request))
                request = []
        if request:
            file.write(written(request))


FORMATS = {"csv": write_csv, "text": write_text, "otlp": write_otlp}


def run(program, source, out, lines, threads):
    """One run: its wall and CPU seconds and its peak memory in MiB."""
    command = [program, "analyze", str(source), "--out", str(out)] + (["--threads", str(threads)] if threads else [])
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if process.returncode != 0 or f" in {lines} rows " not in told:
        sys.exit(f"{' '.join(command)} ended with {process.returncode} and said:\n{told}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mib": usage.ru_maxrss // 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--format", choices=FORMATS, default="csv")
    parser.add_argument("--faults", choices=["once", "every-round"], default="once")
    parser.add_argument("--threads", type=int, help="as many as there are cores unless given")
    parser.add_argument("--keep", type=Path, help="where the input is written and left, for a look at it")
    arguments = parser.parse_args()
    program = harbinger()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.keep or Path(folder) / f"input.{arguments.format}"
        FORMATS[arguments.format](source, varied(arguments.lines, arguments.faults))
        runs = []
        for number in range(arguments.runs):
            runs.append(run(program, source, Path(folder) / "out", arguments.lines, arguments.threads))
            print(f"run {number + 1}: {runs[-1]}", file=sys.stderr)
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result = {
        "lines": arguments.lines,
        "format": arguments.format,
        "faults": arguments.faults,
        "runs": runs,
        **medians,
        "lines_per_s": round(arguments.lines / medians["wall_s"]),
        "lines_per_cpu_s": round(arguments.lines / medians["cpu_s"]),
    }
    print(
        f"{arguments.lines} lines as {arguments.format}: {medians['wall_s']} s, {medians['cpu_s']} s of CPU, "
        f"{medians['peak_mib']} MiB at most, {result['lines_per_s']} lines a second (medians of {arguments.runs})",
        file=sys.stderr,
    )
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
