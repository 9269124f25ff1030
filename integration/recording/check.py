#!/usr/bin/env python3
"""// Holds the recording against what is promised about it.
//
// Why it exists: tests and the demo trust recording.jsonl.gz and truth.json; a new recording may only replace
// the old one if its faults speak, and nothing else does.
// In:  recording.jsonl.gz and truth.json beside this file, or in the folder given.
// Out: a summary; each broken promise as one line on standard error and exit code 1.
// Promises: reads only. Says every broken promise, not just the first.
// Deliberately absent: an opinion of which record is an anomaly (truth is per fault, not per record).
"""
import collections, gzip, json, pathlib, re, sys

SECOND = 10**9
GAP = 330 * SECOND                 # longer than Harbinger's window of 300 s
SLACK = SECOND                     # nginx's error log has whole seconds only
HEX = re.compile(r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{12,32}|0x[0-9a-f]+)\b")
MASKS = [(re.compile(r"'[^'\n]*'|\"[^\"\n]*\""), "<q>"), (HEX, "<h>"), (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>")]


def masked(text):
    for pattern, mark in MASKS:
        text = pattern.sub(mark, text)
    return text


def main():
    given = [a for a in sys.argv[1:] if not a.startswith("-")]
    folder = pathlib.Path(given[0]) if given else pathlib.Path(__file__).parent
    packed, truth = (folder / "recording.jsonl.gz").read_bytes(), json.loads((folder / "truth.json").read_text())
    broken = []

    def hold(promise, kept):
        if not kept:
            broken.append(promise)

    records, lines, last = [], 0, (0, "")
    for line in gzip.decompress(packed).decode().splitlines():
        lines += 1
        (resource,) = json.loads(line)["resourceLogs"]
        service = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}["service.name"]
        logs = resource["scopeLogs"][0]["logRecords"]
        times = [int(r["timeUnixNano"]) for r in logs]
        hold(f"line {lines}: records in order of time", times == sorted(times))
        hold(f"line {lines}: one second", times[0] // SECOND == times[-1] // SECOND)
        hold(f"line {lines}: lines in order of time", times[0] >= last[0])
        last = (times[0], service)
        for r in logs:
            hold(f"line {lines}: 64-bit numbers are strings", isinstance(r["timeUnixNano"], str) and isinstance(r["observedTimeUnixNano"], str))
            hold(f"line {lines}: a body, a severity", bool(r["body"]["stringValue"]) and 1 <= r["severityNumber"] <= 24)
            lag = int(r["observedTimeUnixNano"]) - int(r["timeUnixNano"])
            hold(f"line {lines}: observed at most 10 s after, not before ({lag / SECOND:.2f} s)", -SECOND / 100 <= lag < 10 * SECOND)
            records.append((int(r["timeUnixNano"]), service, r["severityNumber"], r["body"]["stringValue"]))
    services = collections.Counter(r[1] for r in records)
    hold(f"gzip with mtime 0, under 2 MB: {len(packed)}", packed[4:8] == bytes(4) and len(packed) < 2_000_000)
    hold(f"at least 20,000 records: {len(records)}", len(records) >= 20_000)
    hold(f"four services with at least 300 records: {dict(services)}", len(services) == 4 and min(services.values()) >= 300)
    hold("counts of truth.json", truth["records"] == len(records) and truth["recordsByService"] == dict(sorted(services.items())) and truth["requests"] == lines)
    secrets = [r for r in records if re.search(r"shop-demo|analyst-demo|/work/|/root\b|/home/|/tmp/harb", r[3])]
    hold(f"no passwords, no paths of the machine: {secrets[:2]}", not secrets)

    faults = truth["faults"]
    windows = [(int(f["start"]["unixNano"]) - SLACK, int(f["end"]["unixNano"])) for f in faults]
    hold(f"at least four faults: {len(faults)}", len(faults) >= 4)
    for a, b in zip(windows, windows[1:]):
        hold(f"more than {GAP // SECOND} s between faults: {(b[0] - a[1]) / SECOND:.0f}", b[0] - a[1] > GAP)
    first, end = min(r[0] for r in records), max(r[0] for r in records)
    hold("eight minutes of health first, two last", windows[0][0] - first > 480 * SECOND and end - windows[-1][1] > 120 * SECOND)

    def window(time):
        return next((i for i, (a, b) in enumerate(windows) if a <= time <= b), None)

    shown = collections.defaultdict(set)
    for number, fault in enumerate(faults):
        for symptom in fault["symptoms"]:
            hits = [r for r in records if symptom["contains"] in r[3]]
            inside = [r for r in hits if window(r[0]) == number]
            elsewhere = [r for r in hits if window(r[0]) is None]
            hold(f"{fault['name']}: shows \"{symptom['contains']}\" {symptom['records']} times, counted {len(inside)}", len(inside) == symptom["records"] >= 1)
            hold(f"{fault['name']}: \"{symptom['contains']}\" outside all faults: {elsewhere[:1]}", not elsewhere)
            shown[number] |= {r[1] for r in inside}
        hold(f"{fault['name']}: shows in services it names: {shown[number]}", shown[number] and shown[number] <= set(fault["services"]))
    benign = collections.Counter()
    for time, service, severity, body in records:
        if severity < 17 or window(time) is not None:
            continue
        kind = next((b["what"] for b in truth["benignErrors"] if b["service"] == service and b["contains"] in body), None)
        hold(f"an error outside all faults: {service} {body[:160]!r} at +{(time - first) / SECOND:.1f} s", kind is not None)
        benign[kind] += 1

    # what is benign shows early: a kind of line first seen in health after the first fault has ended is called late
    kinds, late = {}, collections.Counter()
    for time, service, severity, body in records:
        kind = (service, masked(body.splitlines()[0]))
        if kind not in kinds and window(time) is None and time > windows[0][0]:
            late[kind] += 1
        kinds.setdefault(kind, time)
    templates = {(r[1], masked(r[3])) for r in records}
    warm = {(r[1], masked(r[3])) for r in records if r[0] < windows[0][0]}
    hold(f"60 to 400 kinds of line: {len(kinds)}", 60 <= len(kinds) <= 400)

    print(f"{len(records)} records in {lines} requests over {(end - first) / SECOND / 60:.1f} minutes, {len(packed)} bytes packed")
    print("services:  ", ", ".join(f"{s} {n}" for s, n in services.most_common()))
    print("severities:", ", ".join(f"{s} {n}" for s, n in truth["recordsBySeverity"].items()))
    print(f"masked templates: {len(kinds)} by first line, {len(templates)} by whole body ({len(warm)} of them in warm-up)")
    for number, fault in enumerate(faults):
        a, b = windows[number]
        bad = sum(1 for r in records if a <= r[0] <= b and r[2] >= 17)
        print(f"+{fault['offsetSeconds']:7.1f} s  {(b - a - SLACK) / SECOND:5.1f} s  {fault['name']}: {bad} error records; " + "; ".join(f"\"{s['contains']}\" {s['records']}" for s in fault["symptoms"]))
    print("benign errors outside:", ", ".join(f"{what} {n}" for what, n in benign.most_common()))
    print(f"first seen in health after the first fault: {len(late)} kinds")
    if "-v" in sys.argv:
        print(*(f"  +{(kinds[k] - first) / SECOND:.0f} s {k[0]} {k[1][:170]}" for k in late), sep="\n")
    for promise in broken[:40]:
        print("BROKEN", promise, file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
