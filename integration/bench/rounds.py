"""Rounds: the same load through one hop after the other, again and again, so that a machine whose speed drifts drifts for all.

In:  hops that run, the sender and the sink (`integration/bench/load`, release builds).
Out: for each hop a list of what the rounds gave: records, seconds, CPU of hop, sender and sink, time of calls.
Promises: CPU is the kernel's count for the hop's process alone; a call that fails ends everything with the process's own words.
Deliberately absent: averages. Whoever prints takes medians, and of ratios the median of each round's ratio.
"""

import json
import os
import statistics
import subprocess

from processes import ROOT, Stage, cpu_s, detection, free_port

from .hops import Harbinger

LOAD = ROOT / "target/integration/bench/release/load"
RECORDING = ROOT / "integration/recording/recording.jsonl.gz"


class Sink:
    """Where everything ends."""

    def __init__(self, stage, *arguments):
        self.port = free_port()
        self.process = stage.start("sink", [str(LOAD), "sink", "--listen", f"127.0.0.1:{self.port}", *arguments])
        stage.wait_for_port(self.port, self.process)

    def cpu_s(self):
        return cpu_s(self.process)

    def end(self):
        """Stops it; what it says of all that came."""
        self.process.kill()
        return json.loads(self.process.log.read_text().splitlines()[-1])


def send(port, **shape):
    """Sends a load of this shape (the sender's options, `_` for `-`) and returns what became of it."""
    command = [str(LOAD), "send", "--recording", str(RECORDING), "--to", f"127.0.0.1:{port}"]
    for key, value in shape.items():
        command += [f"--{key.replace('_', '-')}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command[1:])}\n{done.stderr.strip()}")
    return json.loads(done.stdout)


class Field(Stage):
    """A sink, and the hops in front of it."""

    deadline_seconds = 3600

    def __init__(self, hops, compression="none"):
        self.open_stage()
        self.compression = compression
        self.sink = Sink(self)
        self.hops = []
        for hop in hops:
            try:
                hop.start(self, self.sink.port, compression)
                self.hops.append(hop)
            except LookupError as cannot:
                print(f"  without {hop.name}: {cannot}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_stage()

    def warm_up(self):
        """Until every Harbinger here judges, and has seen all that will be sent."""
        for hop in self.hops:
            if isinstance(hop, Harbinger) and hop.mode == "mark":
                self.wait_until(lambda: send(hop.port, seconds=1) and detection(hop.health)[1] == "ready",
                                f"{hop.name} judges", [hop.process])
                send(hop.port, seconds=2)
                self.wait_until(hop.is_idle, f"{hop.name} has embedded and trained", [hop.process])
                send(hop.port, seconds=1)
                self.wait_until(hop.is_idle, f"{hop.name} has embedded and trained", [hop.process])

    def rounds(self, count, seconds, **shape):
        """Name of each hop: a measure for each round."""
        measured = {hop.name: [] for hop in self.hops}
        for _ in range(count):
            for hop in self.hops:
                measured[hop.name].append(self.measure(hop, seconds, **shape))
        return measured

    def measure(self, hop, seconds, **shape):
        """One round through one hop."""
        hop_before, sink_before = hop.cpu_s(), self.sink.cpu_s()
        told = send(hop.port, seconds=seconds, compression=self.compression, **shape)
        told["hop_cpu_s"] = hop.cpu_s() - hop_before
        told["sink_cpu_s"] = self.sink.cpu_s() - sink_before
        told["rss_mib"] = hop.memory_mib()
        told["peak_mib"] = hop.memory_mib("VmHWM")
        told["per_core_s"] = told["records"] / told["hop_cpu_s"] if told["hop_cpu_s"] else None
        told["per_wall_s"] = told["records"] / told["wall_s"]
        return told


def median(rounds, key):
    """Of one figure over rounds; None where it is not measured."""
    values = [measured[key] for measured in rounds]
    return None if None in values else statistics.median(values)


def ratio(ours, theirs, key="per_core_s"):
    """Median of the rounds' ratios."""
    return statistics.median(a[key] / b[key] for a, b in zip(ours, theirs))


def machine():
    """What this ran on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
