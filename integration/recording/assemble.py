#!/usr/bin/env python3
"""// Turns the raw log lines of a run into the recording and its truth.
//
// Why it exists: recording takes forty minutes, reading what was recorded takes seconds; so they are apart.
// In:  a work folder with raw.jsonl ([observed nanoseconds, stream, line]) and story.json (the faults).
// Out: recording.jsonl.gz, one OTLP JSON ExportLogsServiceRequest a line and about one a service and second,
//      as the Collector's file exporter writes them; truth.json.
// Promises: the same raw lines make the same bytes. A message over several lines is one record. Bodies are what
//      the server wrote, without the time, level and process id that became fields.
//      One thing is changed in them: nginx tells the kernel it runs on, which is nobody's business (SCRUB).
// Deliberately absent: judgement. Nothing is dropped, except empty lines.
//
// Usage: assemble.py WORK OUT
"""
import collections, datetime, gzip, io, json, pathlib, re, sys

SEVERITY = {"DEBUG": 5, "INFO": 9, "NOTICE": 10, "WARN": 13, "ERROR": 17, "CRITICAL": 18, "FATAL": 21, "PANIC": 24}
# the words of lc_messages = C; a recording in another language adds its own here
POSTGRES = {"DEBUG1": "DEBUG", "INFO": "INFO", "LOG": "INFO", "NOTICE": "NOTICE", "WARNING": "WARN", "ERROR": "ERROR", "FATAL": "FATAL", "PANIC": "PANIC"}
NGINX = {"debug": "DEBUG", "info": "INFO", "notice": "NOTICE", "warn": "WARN", "error": "ERROR", "crit": "CRITICAL", "alert": "CRITICAL", "emerg": "FATAL"}
REDIS = {".": "DEBUG", "-": "INFO", "*": "NOTICE", "#": "WARN"}
PYTHON = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARN", "ERROR": "ERROR", "CRITICAL": "CRITICAL"}
VERSIONS = {"postgresql": r"starting PostgreSQL (\S+)", "nginx": r"^nginx/(\S+)", "redis": r"Redis version=([^,]+)", "shop": r"shop (\S+) starting"}
UTC = datetime.timezone.utc
SCRUB = (re.compile(r"OS: Linux \S+"), "OS: Linux 6.1.0")
# what a healthy system also reports as an error; check.py holds every other error against the fault windows
BENIGN = [
    ("a name is registered twice", "postgresql", "duplicate key value violates unique constraint"),
    ("a report runs into its own time limit", "postgresql", "canceling statement due to statement timeout"),
    ("an analyst mistypes a password", "postgresql", "password authentication failed for user"),
    ("an analyst mistypes a query", "postgresql", "syntax error at or near \"order\""),
    ("an analyst names a column that is not there", "postgresql", "column \"turnover\" does not exist"),
    ("a static file is missing", "nginx", "failed (2: No such file or directory)"),
    ("a location is forbidden", "nginx", "access forbidden by rule"),
    ("a password of the admin page is wrong", "nginx", "password mismatch"),
    ("a user of the admin page is unknown", "nginx", "was not found in"),
    ("an upload is too large", "nginx", "client intended to send too large body"),
    ("a crawler is slowed down", "nginx", "limiting requests, excess"),
]


def nanos(text, form):
    """Time text with a fraction after . or , to unix nanoseconds, in integers."""
    head, _, fraction = text.partition(".")
    seconds = int(datetime.datetime.strptime(head, form).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))


class Record:
    __slots__ = ("time", "observed", "level", "body", "attributes", "trace", "key")

    def __init__(self, time, observed, level, body, attributes, trace=None, key=None):
        self.time, self.observed, self.level, self.body = time, observed, level, body
        self.attributes, self.trace, self.key = attributes, trace, key


RE_POSTGRES = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[(\d+)\] (?:(\S+)@(\S+) )?(\w+):  (.*)$", re.S)
RE_ERROR_LOG = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] (\d+)#\d+: (.*)$", re.S)
RE_REDIS = re.compile(r"^(\d+):([XCSM]) (\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) ([.*#-]) (.*)$", re.S)
RE_SHOP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (\w+) ([\w.]+) \[(\S+)\] (.*)$", re.S)


def parse(stream, observed, line):
    """One line to a record; to a string if it continues the stream's last record; (key, text) if that of a process."""
    if stream == "postgresql":
        m = RE_POSTGRES.match(line)
        if not m:
            return line
        when, pid, user, database, label, text = m.groups()
        if label not in POSTGRES:                                 # DETAIL, HINT, CONTEXT, STATEMENT, in any language
            return pid, f"{label}:  {text}"
        attributes = {"process.pid": int(pid)} | ({"db.user": user, "db.namespace": database} if user else {})
        return Record(nanos(when, "%Y-%m-%d %H:%M:%S"), observed, POSTGRES[label], text, attributes, key=pid)
    if stream == "redis":
        m = RE_REDIS.match(line)
        if not m:
            return line
        pid, role, when, sign, text = m.groups()
        return Record(nanos(when, "%d %b %Y %H:%M:%S"), observed, REDIS[sign], text, {"process.pid": int(pid), "redis.role": role})
    if stream == "nginx-error":
        m = RE_ERROR_LOG.match(line)
        if not m:
            return line
        when, level, pid, text = m.groups()
        return Record(nanos(when, "%Y/%m/%d %H:%M:%S"), observed, NGINX[level], text, {"log.file.name": "error.log", "process.pid": int(pid)})
    if stream == "nginx-access":
        when, request, client, text = line.split("|", 3)
        return Record(int(when.replace(".", "")) * 10**6, observed, "INFO", text, {"log.file.name": "access.log", "client.address": client}, trace=request)
    m = RE_SHOP.match(line)
    if not m:
        return line
    when, level, name, trace, text = m.groups()
    return Record(nanos(when, "%Y-%m-%d %H:%M:%S"), observed, PYTHON[level], text, {"logger": name}, trace=None if trace == "-" else trace)


def read(path):
    streams = collections.defaultdict(list)
    by_process, odd = {}, []
    with open(path, encoding="utf-8") as raw:
        for entry in raw:
            observed, stream, line = json.loads(entry)
            if not line.strip():
                continue
            made = parse(stream, observed, SCRUB[0].sub(SCRUB[1], line))
            if isinstance(made, Record):
                streams[stream].append(made)
                if made.key:
                    by_process[made.key] = made
            elif isinstance(made, tuple):
                by_process[made[0]].body += "\n" + made[1]
            elif streams[stream]:
                last = streams[stream][-1]
                if stream == "postgresql" and not line.startswith("\t"):
                    odd.append(line)
                last.body += "\n" + line
            else:
                odd.append(line)
    if odd:
        print("lines of no known shape:", *odd[:5], sep="\n  ", file=sys.stderr)
    services = collections.defaultdict(list)
    for stream, records in streams.items():
        services[stream.split("-")[0]] += records
    return services


def any_value(value):
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def pairs(attributes):
    return [{"key": k, "value": any_value(v)} for k, v in attributes.items()]


def otlp(resource, records):
    logs = []
    for r in records:                                            # a line written while it was being read is not seen before its time
        log = {"timeUnixNano": str(r.time), "observedTimeUnixNano": str(max(r.observed, r.time)), "severityNumber": SEVERITY[r.level], "severityText": r.level,
               "body": {"stringValue": r.body}, "attributes": pairs(r.attributes)}
        if r.trace:
            log["traceId"] = r.trace
        logs.append(log)
    return {"resourceLogs": [{"resource": {"attributes": pairs(resource)}, "scopeLogs": [{"scope": {}, "logRecords": logs}]}]}


def rfc3339(ns):
    return datetime.datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % 10**9:09d}Z"


def moment(ns):
    return {"rfc3339": rfc3339(ns), "unixNano": str(ns)}


def main():
    work, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    services, story = read(work / "raw.jsonl"), json.loads((work / "story.json").read_text())
    versions, batches = {}, []
    for service, records in services.items():
        found = (re.search(VERSIONS[service], r.body) for r in records)
        versions[service] = next((m.group(1) for m in found if m), "unknown")
    for service, records in sorted(services.items()):
        records.sort(key=lambda r: r.time)                       # stable: lines of one instant stay as they were written
        resource = {"service.name": service, "service.version": versions[service], "host.name": "shop-1"}
        seconds = collections.defaultdict(list)
        for r in records:
            seconds[r.time // 10**9].append(r)
        batches += [(group[0].time, service, otlp(resource, group)) for group in seconds.values()]
    batches.sort(key=lambda b: b[:2])
    text = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=text, mtime=0) as packed:
        for _, _, request in batches:
            packed.write((json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    (out / "recording.jsonl.gz").write_bytes(text.getvalue())

    every = [(r.time, service, r) for service, records in services.items() for r in records]
    first, last = min(e[0] for e in every), max(e[0] for e in every)
    faults = []
    for fault in story:
        begin, counts = fault["start"], {}
        seen = []
        for part in fault["symptoms"]:
            times = [t for t, _, r in every if part in r.body and begin - 10**9 <= t <= fault["repaired"] + 30 * 10**9]
            counts[part] = len(times)
            seen += times
        faults.append({
            "name": fault["name"], "description": fault["description"], "services": fault["services"],
            "start": moment(begin), "end": moment(max(seen + [fault["repaired"]])), "offsetSeconds": round((begin - first) / 1e9, 1),
            "firstSymptom": moment(min(seen, default=begin)), "lastSymptom": moment(max(seen, default=begin)),
            "symptoms": [{"contains": part, "records": count} for part, count in counts.items()]})
    by_service = {s: dict(collections.Counter(r.level for r in records)) for s, records in sorted(services.items())}
    truth = {
        "licence": "Apache-2.0; our own recording, see README.md",
        "start": moment(first), "end": moment(last), "records": len(every), "requests": len(batches),
        "recordsByService": {s: len(r) for s, r in sorted(services.items())},
        "recordsBySeverity": {k: sum(c.get(k, 0) for c in by_service.values()) for k in SEVERITY if any(k in c for c in by_service.values())},
        "recordsByServiceAndSeverity": by_service, "versions": versions, "faults": faults,
        "benignErrors": [{"what": what, "service": service, "contains": part, "records": sum(part in r.body for r in services[service])} for what, service, part in BENIGN]}
    (out / "truth.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(every)} records, {len(batches)} requests, {len(text.getvalue())} bytes -> {out}")


if __name__ == "__main__":
    main()
