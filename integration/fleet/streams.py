"""Labelled logs as small requests in the order of time: our own recording, and a set that is not ours to publish.

In:  integration/recording; `openstack-faults-overlap60.csv.gz` in the folder of public sets ($HARBINGER_DATA_DIR, else
     ../shared/data beside the repository). Nothing of that set is written anywhere but to Kafka and the temporary folder of a run.
Out: a `Stream`: a plan whose requests chaos/topics.py can feed and chaos/oracle.py can ask for again, when each of them happened, and
     of each record the truth.
Promise: the same file gives the same bytes; record K of request N has the id `N-K`; a request holds at most MOST records of at most
SPAN seconds, so that what happened at one moment is many requests, which lie on many partitions. With `whole` what one service says at
one instant, as the lines of a stack trace, stays in one request, as a sender's batch has it; without, it is torn as well.
Deliberately absent: the labels, in what is sent.
"""

import csv
import gzip
import json
import os
import re
from collections import namedtuple
from functools import cached_property
from pathlib import Path

from packages import PACKAGES  # noqa: F401  (makes the next lines find what is installed there)

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from chaos import wire
from processes import ROOT
from recorded import RECORDING, TRUTH, attributes, records_of

SHARED = Path(os.environ.get("HARBINGER_DATA_DIR") or ROOT.parent / "shared/data")
OVERLAP60 = SHARED / "openstack-faults-overlap60.csv.gz"
MOST, SPAN = 10, 0.25
SECOND = 10**9
# OTLP's number of a severity's name.
SEVERITIES = {"DEBUG": 5, "INFO": 9, "NOTICE": 10, "WARN": 13, "WARNING": 13, "ERROR": 17, "CRITICAL": 21, "FATAL": 21}
# What varies in a line: numbers, ids, whatever is quoted. Cruder than the agent's own templates, and the same for every agent.
VARIES = re.compile(r"req-[0-9a-f-]+|\b[0-9a-f]{6,}(?:-[0-9a-f]+)*\b|\d+|'[^']*'|\"[^\"]*\"")

# `time` in nanoseconds; `fault` only of a true line.
Line = namedtuple("Line", "time service severity body trace request_id extra fault")


class Stream:
    """`seed`, `sizes` and `request` are what a plan of chaos/ has; before the second `warm` nothing is wrong yet.
    `warm_up_records` is what agents are told to learn from first."""

    seed = 0

    def __init__(self, name, lines, warm, whole=False, warm_up_records=500):
        self.warm, self.whole, self.warm_up_records = warm, whole, warm_up_records
        self.name, self.lines = name, sorted(lines, key=lambda line: line.time)
        self.parts = []
        last = {}
        for line in self.lines:
            part = self.parts[-1] if self.parts else None
            if whole and line.service in last and last[line.service][0].time == line.time:
                last[line.service][1].append(line)
                continue
            if part and len(part) < MOST and line.time - part[0].time <= SPAN * SECOND:
                part.append(line)
            else:
                part = [line]
                self.parts.append(part)
            last[line.service] = line, part
        # One service's records stand together in a request, in the order in which the services first speak.
        self.parts = [sorted(part, key=lambda line, order=[one.service for one in part]: order.index(line.service)) for part in self.parts]
        self.sizes = tuple(map(len, self.parts))
        self.start = self.lines[0].time

    def __len__(self):
        return len(self.lines)

    def at(self, index):
        """Seconds from the first record to the earliest of that request."""
        return (min(line.time for line in self.parts[index]) - self.start) / SECOND

    @property
    def seconds(self):
        return (self.lines[-1].time - self.start) / SECOND

    def request(self, index, alone=False):
        """The bytes of the request of that number."""
        request = ExportLogsServiceRequest()
        service = None
        for number, line in enumerate(self.parts[index]):
            if line.service != service:
                service, resource = line.service, request.resource_logs.add()
                add(resource.resource.attributes, "service.name", service)
                records = resource.scope_logs.add().log_records
            record = records.add(
                time_unix_nano=line.time, observed_time_unix_nano=line.time, severity_text=line.severity,
                severity_number=SEVERITIES.get(line.severity.upper(), 0), trace_id=bytes.fromhex(line.trace))
            record.body.string_value = line.body
            add(record.attributes, wire.ID.decode(), f"<{index}-{number}>")
            for key, value in (*line.extra, ("request_id", line.request_id)):
                if value:
                    add(record.attributes, key, value)
        return request.SerializeToString()

    @cached_property
    def by_id(self):
        """Each record's line, by its id."""
        return {f"{index}-{number}": line for index, part in enumerate(self.parts) for number, line in enumerate(part)}

    @cached_property
    def judged(self):
        """The ids of what comes after the second `warm`."""
        return {name for name, line in self.by_id.items() if (line.time - self.start) / SECOND >= self.warm}

    @cached_property
    def truth(self):
        """The fault of each true line, by id."""
        return {name: line.fault for name, line in self.by_id.items() if line.fault}

    @cached_property
    def shapes(self):
        """Of each record what it says, without what varies, by id."""
        return {name: (line.service, VARIES.sub("*", line.body)) for name, line in self.by_id.items()}

    def between(self, start, end):
        """The same with records of these seconds only, counted from the first."""
        begin = self.start
        return Stream(self.name, [line for line in self.lines if start <= (line.time - begin) / SECOND < end], self.warm, self.whole, self.warm_up_records)


def add(to, key, value):
    pair = to.add(key=key)
    pair.value.string_value = value


def recording(whole=False):
    """integration/recording; a true line shows one of a fault's symptoms within its window, as evaluation/recording.py has it."""
    faults = json.loads(TRUTH.read_text(encoding="utf-8"))["faults"]
    windows = [(int(fault["start"]["unixNano"]) - SECOND, int(fault["end"]["unixNano"]), fault) for fault in faults]

    def cause(time, body):
        return next((fault["name"] for start, end, fault in windows
                     if start <= time <= end and any(one["contains"] in body for one in fault["symptoms"])), "")

    def lines():
        with gzip.open(RECORDING, "rt", encoding="utf-8") as file:
            for text in file:
                for resource in json.loads(text)["resourceLogs"]:
                    service = attributes(resource["resource"])["service.name"]
                    for record in records_of({"resourceLogs": [resource]}):
                        time, body = int(record["timeUnixNano"]), record["body"]["stringValue"]
                        extra = tuple((key, value) for key, value in attributes(record).items() if isinstance(value, str))
                        yield Line(time, service, record.get("severityText", ""), body, record.get("traceId", ""), "", extra, cause(time, body))

    # An error is usual here every 50 s. After the default of 500 records, 42 s, it is too little known: its 140 records are then marked in some
    # runs, and one agent's agreement with the faults is .61 or .66; after 1800, 144 s, it is .66.
    return Stream("recording", lines(), warm=480, whole=whole, warm_up_records=1800)


def overlap60(whole=False):
    """24 faults of OpenStack, which begin 60 s apart; None where the set is not there."""
    if not OVERLAP60.exists():
        return None

    def lines():
        with gzip.open(OVERLAP60, "rt", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                whole, _, fraction = row["timestamp"].partition(".")
                time = int(whole) * SECOND + int(fraction.ljust(9, "0") or 0)
                fault = row["fault"] if row["label"] == "1" else ""
                yield Line(time, row["service"], row["severity"], row["message"], "", row["request_id"], (), fault)

    # The first true line is two seconds later; three agents have 600 records each by then.
    return Stream("overlap60", lines(), warm=345, whole=whole)


STREAMS = {"recording": recording, "overlap60": overlap60}
