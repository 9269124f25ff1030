#!/usr/bin/env python3
"""Counts the instructions of the warm path and holds them against what is kept in instructions.json.

In:  target/release/warm_path, valgrind. Out: instructions per record, for each step of a request's way; exit code 1 where one has
     become dearer. With --write the file is replaced by what was counted.
Promises: a count is of code alone, not of the machine: callgrind emulates one processor, whatever the real one can do; learning
     happens outside it. Counts of one binary repeat to 0.1 %, but for the allocator: where its pages happen to lie decides whether
     one is given back and taken anew with each request. So the least of several runs counts, as chance only ever adds. Another build
     of the same sources may lay functions out anew and inline others, which moves a step by 1 to 2 %. Hence TOLERANCE: less is
     noise, more is a change of the code.
Absent on purpose: caches and time; `cargo bench -p harbinger-benches` and `make bench` measure those.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_name("instructions.json")
PROGRAM = ROOT / "target/release/warm_path"

TOLERANCE = 0.03
# Steps that cost next to nothing may move by so many instructions a record.
SLACK = 10

# In one run of four a scenario is dearer by such an accident.
RUNS = 6

STEPS = ["view", "prepare", "embed", "commit", "annotate"]
SCENARIOS = ["healthy-1000", "healthy-10", "healthy-1", "fault-1000"]


def counted(scenario, run, folder):
    """Instructions per record by step; `rest` is what a request costs between the steps."""
    profile = folder / f"{scenario}.{run}.profile"
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=warm_path::measured", f"--callgrind-out-file={profile}"]
    done = subprocess.run([*command, PROGRAM, "pass", folder, scenario], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"valgrind failed:\n{done.stderr}")
    records = int(re.match(r"(\d+) records", done.stdout)[1])
    listing = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", profile], capture_output=True, text=True, check=True
    ).stdout
    inclusive = {}
    for line in listing.splitlines():
        found = re.match(r"\s*([\d,]+) .*:(?:inputs::agent::Agent::(\w+)|warm_path::(measured))\b", line)
        if found:
            inclusive.setdefault(found[2] or found[3], int(found[1].replace(",", "")))
    missing = [step for step in [*STEPS, "measured"] if step not in inclusive]
    if missing:
        sys.exit(f"not in the profile: {', '.join(missing)}")
    steps = {step: inclusive[step] / records for step in STEPS}
    steps["rest"] = inclusive["measured"] / records - sum(steps.values())
    steps["all"] = inclusive["measured"] / records
    return {step: round(count) for step, count in steps.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="keep what was counted")
    write = arguments.parse_args().write
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed, and only root can have it installed here: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([PROGRAM, "learn", folder], check=True)
        with ThreadPoolExecutor(max_workers=2) as pool:
            runs = {name: [pool.submit(counted, name, run, folder) for run in range(RUNS)] for name in SCENARIOS}
            found = {name: min((run.result() for run in of), key=lambda steps: steps["all"]) for name, of in runs.items()}
    kept = json.loads(KEPT.read_text())["instructions_per_record"] if KEPT.exists() else {}
    dearer = cheaper = False
    print(f"{'instructions a record':23}" + "".join(f"{step:>16}" for step in [*STEPS, "rest", "all"]))
    for name, steps in found.items():
        cells = []
        for step, count in steps.items():
            before = kept.get(name, {}).get(step)
            cells.append(f"{count:>8}" + (f"{count - before:>+8}" if before is not None else " " * 8))
            if before is not None:
                allowed = max(before * TOLERANCE, SLACK)
                dearer |= count > before + allowed
                cheaper |= count < before - allowed
        print(f"{name:23}" + "".join(cells))
    if write:
        KEPT.write_text(json.dumps({"instructions_per_record": found}, indent=2) + "\n")
    elif dearer:
        sys.exit("the warm path has become dearer; where that is meant, `make instructions WRITE=1` keeps the new counts")
    elif cheaper or not kept:
        print("the warm path has become cheaper: keep that with `make instructions WRITE=1`")


if __name__ == "__main__":
    main()
