#!/usr/bin/env python3
"""Makes a labelled set for `harbinger evaluate` out of our own recording and its truth.

python3 recording.py [--out DIR]

Writes recording.csv to DIR, by default target/evaluation/sets. `fault` names the fault whose window a record lies in, whatever
it says: consequences, and healthy lines that go on meanwhile, are nobody's false alarm. `label` is 1 where the record shows
one of the fault's symptoms within that window. The window of a fault is that of recording/check.py: from its start, less a second
(nginx's error log tells whole seconds), to its end. The same recording gives the same set.
"""

import argparse, csv, gzip, json
from pathlib import Path

from sets import COLUMNS, ROOT

RECORDING = ROOT / "integration/recording"
SECOND = 10**9


def records(path):
    """Time, service, severity and body of each record, in order of the file."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            for resource in json.loads(line)["resourceLogs"]:
                attributes = {it["key"]: it["value"].get("stringValue") for it in resource["resource"]["attributes"]}
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        yield int(record["timeUnixNano"]), attributes["service.name"], record["severityText"], record["body"]["stringValue"]


def make(out):
    faults = json.loads((RECORDING / "truth.json").read_text())["faults"]
    out.mkdir(parents=True, exist_ok=True)
    path, shown = out / "recording.csv", {fault["name"]: 0 for fault in faults}
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for time, service, severity, message in records(RECORDING / "recording.jsonl.gz"):
            name, label = "", 0
            for fault in faults:
                if int(fault["start"]["unixNano"]) - SECOND <= time <= int(fault["end"]["unixNano"]):
                    name = fault["name"]
                    label = int(any(symptom["contains"] in message for symptom in fault["symptoms"]))
                    shown[name] += label
            table.writerow([f"{time // SECOND}.{time % SECOND:09}", service, severity, message, label, name])
    return path, shown


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=ROOT / "target/evaluation/sets")
    path, shown = make(arguments.parse_args().out)
    print(path)
    for name, records_shown in shown.items():
        print(f"{name:<32} {records_shown:>5} records show its symptoms")


if __name__ == "__main__":
    main()
