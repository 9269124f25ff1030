#!/usr/bin/env python3
"""The newcomer's first look: the agent on config-examples/quickstart.yaml, real recorded logs through its port, and what
came out at the other end.

What enters: target/release/harbinger, assets/ and integration/recording/. What leaves: the incidents as the running agent
tells them, one of them closer, and a marked record, on the terminal; everything else in out/demo/. Promises: nothing is
prepared or hidden, the records shown are the ones that reached the sink; it ends with an error if one of the recording's
faults is not among the incidents.
Deliberately absent: any knowledge of the faults on the agent's side; the truth is only compared with afterwards.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from processes import ROOT, free_port
from recorded import RECORDING, TRUTH, attributes, events_of, records_of, requests_in, seconds

OUT = ROOT / "out" / "demo"
WARM_UP_RECORDS = 2000
BINARY = Path(os.environ.get("HARBINGER_BIN", ROOT / "target" / "release" / "harbinger"))


def start_agent(port, health_port, api_port, page_port):
    # Time passes many times faster than it did, model and training are not faster. So a request waits for the model as long as it
    # takes, and the replay for the request; and it learns from the shop's first 160 seconds, as 500 records are 42.
    command = [
        BINARY, "run", "--config", ROOT / "config-examples" / "quickstart.yaml",
        "--set", f"receivers.otlp.protocols.grpc.endpoint=localhost:{port}",
        "--set", "receivers.otlp.protocols.http.endpoint=localhost:0",
        "--set", f"extensions.health_check.endpoint=localhost:{health_port}",
        "--set", f"extensions.harbinger_api.endpoint=127.0.0.1:{api_port}",
        "--set", f"extensions.harbinger_page.endpoint=localhost:{page_port}",
        "--set", f"exporters.file.path={OUT / 'judged.jsonl'}",
        "--set", f"processors.harbinger.state.directory={OUT / 'state'}",
        "--set", "processors.harbinger.embedding.deadline=1m",
        "--set", f"processors.harbinger.detection.warm_up_records={WARM_UP_RECORDS}",
        "--set", "service.telemetry.metrics.level=none",
    ]
    log = open(OUT / "agent.log", "w", encoding="utf-8")
    agent = subprocess.Popen([str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if agent.poll() is not None:
            sys.exit(f"the agent ended at once:\n{(OUT / 'agent.log').read_text(encoding='utf-8')}")
        try:
            with urllib.request.urlopen(f"http://localhost:{health_port}/", timeout=1):
                return agent
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the agent did not become healthy within 60 s; its log: {OUT / 'agent.log'}")


def tell_incidents(api):
    """What whoever is on call would see: the list, and the gist of the incident that went through most services."""
    def ask(*arguments, **options):
        command = [str(BINARY), "incidents", *arguments, "--api", api]
        asked = subprocess.run(command, check=False, text=True, **options)
        if asked.returncode != 0:
            sys.exit(f"`{' '.join(command)}` failed; see above")
        return asked.stdout

    print("$ harbinger incidents list", flush=True)
    ask("list")
    incidents = [json.loads(line) for line in ask("list", "--json", stdout=subprocess.PIPE).splitlines()]
    if incidents:
        widest = max(incidents, key=lambda incident: (len(incident["services"]), incident["records"]))
        print(f"\n$ harbinger incidents show {widest['id']} --brief", flush=True)
        ask("show", widest["id"], "--brief")
    print()


def marked_records():
    """(seconds, service, body, attributes) of every record at the sink."""
    for request in requests_in(OUT / "judged.jsonl"):
        for resource in request["resourceLogs"]:
            service = attributes(resource["resource"]).get("service.name", "")
            for record in records_of({"resourceLogs": [resource]}):
                body = record.get("body", {}).get("stringValue", "")
                yield int(record["timeUnixNano"]) / 1e9, service, body, attributes(record)


def names_of_incidents():
    """For each id that is another's: whose. An alias stands for the incident it became part of, a child for its parent."""
    names = {}
    for request in requests_in(OUT / "judged.jsonl"):
        for event in map(attributes, events_of(request)):
            other = event.get("harbinger.incident.merged_into") or event.get("harbinger.incident.parent_id")
            if other:
                names[event["incident_id"]] = other
    return names


def compare_with_truth(records, faults, names):
    """Prints which incidents tell of which fault; returns the faults of which none does. Only a marked record that shows one
    of the fault's own symptoms counts: an unrelated line that was marked meanwhile has found nothing."""
    missing, told = [], {}
    print("What was really broken, and what Harbinger said:\n")
    for fault in faults:
        start, end = seconds(fault["start"]), seconds(fault["end"])
        shows = [symptom["contains"] for symptom in fault["symptoms"]]
        # nginx's error log tells whole seconds.
        within = [r for r in records if start - 1 <= r[0] <= end + 5 and any(text in r[2] for text in shows)]
        marked = [r for r in within if r[3].get("is_anomaly") is True and "incident_id" in r[3]]
        ids = {r[3]["incident_id"] for r in marked}
        while any(id in names for id in ids):
            ids = {names.get(id, id) for id in ids}
        verdict = f"{len(ids)} incident{'s' * (len(ids) != 1)}, {len(marked)} of {len(within)} symptoms marked" if ids else "NOT SEEN"
        shared = sorted({told[id] for id in ids if id in told})
        if shared:
            verdict += f", shared with {' and '.join(shared)}"
        told.update((id, fault["name"]) for id in ids)
        print(f"  {fault['name']:<30} {fault['start']['rfc3339'][11:19]}  {verdict}")
        if ids:
            first = min(marked, key=lambda r: r[0])
            late = first[0] - min(r[0] for r in within)
            print(f"  {'':<30} {late:.1f} s after the first symptom, by {first[1]}: {first[2].splitlines()[0][:80]}")
        else:
            missing.append(fault["name"])
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--speed", default="40x", help="how much faster than recorded (default 40x)")
    parser.add_argument("--keep", action="store_true", help="leave the agent running afterwards")
    options = parser.parse_args()

    truth = json.loads(TRUTH.read_text(encoding="utf-8"))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    port, health_port, api_port, page_port = (free_port() for _ in range(4))
    agent = start_agent(port, health_port, api_port, page_port)
    try:
        print(f"An agent listens on localhost:{port} (config-examples/quickstart.yaml). Replaying what four real servers")
        print(f"logged while {len(truth['faults'])} things were broken on purpose, {options.speed} as fast as it happened. It learns from the")
        print(f"first {WARM_UP_RECORDS:,} records what is normal, then it judges.")
        print(f"To be watched in a browser: http://localhost:{page_port}/\n", flush=True)
        replay = subprocess.run([str(BINARY), "replay", str(RECORDING), "--to", f"http://localhost:{port}", "--speed", options.speed], check=False)
        if replay.returncode != 0:
            sys.exit("the replay failed; see above")
        print(flush=True)
        tell_incidents(f"http://127.0.0.1:{api_port}")
        records = list(marked_records())
        missing = compare_with_truth(records, truth["faults"], names_of_incidents())
        if len(records) != truth["records"]:
            missing.append(f"records: {truth['records']} went in, {len(records)} came out")
        show_record(records)
        print(f"All {len(records):,} records, as they reached the sink: {OUT.relative_to(ROOT)}/judged.jsonl; the agent's log is beside it.")
        if options.keep:
            print(f"The agent keeps running (pid {agent.pid}): send OTLP logs to localhost:{port}; stop it with kill {agent.pid}.")
            print(f"Look: http://localhost:{page_port}/. Ask: target/release/harbinger incidents show ID --api http://127.0.0.1:{api_port}")
        else:
            print("Your own logs: `make run` keeps an agent on localhost:4317; `target/release/harbinger analyze FILE --out out` reads a file.")
        if missing:
            sys.exit("not as it should be: " + "; ".join(missing))
    finally:
        if not options.keep:
            agent.send_signal(signal.SIGTERM)
            try:
                agent.wait(timeout=30)
            except subprocess.TimeoutExpired:
                agent.kill()


def show_record(records):
    """One marked record with everything Harbinger wrote on it."""
    marked = next((r for r in records if r[3].get("is_anomaly") is True and "incident_id" in r[3]), None)
    if marked:
        _, service, body, attrs = marked
        print(f"\nOne record with all that was added to it:\n\n  {service}: {body.splitlines()[0][:100]}")
        for key, value in attrs.items():
            if key in ("is_anomaly", "incident_id") or key.startswith("harbinger."):
                print(f"    {key} = {json.dumps(value, ensure_ascii=False)}")
        print()


if __name__ == "__main__":
    main()
