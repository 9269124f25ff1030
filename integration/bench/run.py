#!/usr/bin/env python3
"""The table of `make bench`: what a record costs in Harbinger, beside its peers, in one run on this machine.

In:  the hops of `hops.py`; `--quick` for short rounds, `--only` for some parts.
Out: text; target/bench/results.json with every round; target/bench/plot.svg. Rates are records per second of the hop's own CPU
     ("per core second") unless they say wall. Ratios are medians of the rounds' ratios.
Promises: nothing is left out because it looks bad; every part says whether its target is met; rounds of all hops take turns.
Deliberately absent: memory with 10,000 templates and starts (`memory.py`), a million lines of `analyze` (`analyze.py`), a bare loop
     over the model (`make bench-model`): other programs, which `make bench` runs after this one.

    cd integration && python3 -m bench.run --quick
"""

import argparse
import json
import statistics
import sys

from processes import ROOT

from .hops import Collector, Direct, Harbinger, Rotel
from .plot import bars
from .rounds import Field, machine, median, ratio

OUT = ROOT / "target/bench"
HARBINGER, FORWARD, COLLECTOR, ATTRIBUTES, ROTEL, DIRECT = (
    "harbinger", "harbinger, mode off", "collector", "collector + attributes", "rotel", "no hop")
SIZES = [1000, 100, 10, 1]


def hops():
    return [Harbinger(HARBINGER), Harbinger(FORWARD, "off"), Collector(COLLECTOR), Collector(ATTRIBUTES, "attributes"), Rotel(ROTEL)]


class Table:
    """What was measured, printed as it comes."""

    def __init__(self):
        self.rounds, self.targets = {}, []

    def part(self, name, measured):
        """Keeps the rounds of a part and prints a line for each hop."""
        self.rounds[name] = measured
        print(f"\n{name}")
        print(f"  {'':24}{'per core s':>12}{'wall':>12}{'p50 ms':>9}{'p99 ms':>9}{'peak MiB':>10}{'sender':>8}{'sink':>7}")
        for hop, rounds in measured.items():
            rate = median(rounds, "per_core_s")
            busy = [median(rounds, key) / median(rounds, "wall_s") for key in ("cpu_s", "sink_cpu_s")]
            print(f"  {hop:24}{f'{rate:,.0f}' if rate else '':>12}{median(rounds, 'per_wall_s'):>12,.0f}"
                  f"{median(rounds, 'p50_us') / 1000:>9.2f}{median(rounds, 'p99_us') / 1000:>9.2f}"
                  f"{median(rounds, 'peak_mib'):>10.0f}{busy[0]:>8.0%}{busy[1]:>7.0%}", flush=True)

    def target(self, what, found, wanted, unit=""):
        """Says what was found beside what was wanted: at least, or with a negative number at most."""
        met = found >= wanted if wanted >= 0 else found <= -wanted
        sign = "at least" if wanted >= 0 else "at most"
        self.targets.append({"what": what, "found": found, "wanted": f"{sign} {abs(wanted):,g}{unit}", "met": met})
        shown = f"{found:,.0f}" if abs(found) >= 100 else f"{found:.2f}"
        print(f"    {'met ' if met else 'NOT '} {what}: {shown}{unit} (target: {sign} {abs(wanted):,g}{unit})", flush=True)


def sizes(table, count, seconds):
    """Uncompressed requests of each size, four connections."""
    with Field(hops()) as field:
        field.warm_up()
        for size in SIZES:
            calls = 2 if size >= 100 else 8
            measured = field.rounds(count, seconds, records=size, calls=calls)
            table.part(f"{size} records a request", measured)
            ours = measured[HARBINGER]
            if size == 1000:
                table.target("records per core second, judged", median(ours, "per_core_s"), 1_200_000)
                table.target("times rotel", ratio(ours, measured[ROTEL]), 8)
                table.target("times the collector", ratio(ours, measured[COLLECTOR]), 2)
                table.target("times the collector with attributes", ratio(ours, measured[ATTRIBUTES]), 3)
            elif size >= 10:
                table.target(f"of the rate without judging, {size} records", ratio(ours, measured[FORWARD]), 0.9)
        for connections in (1, 32):
            measured = field.rounds(max(1, count // 2), seconds, records=1000, connections=connections, calls=1)
            table.part(f"{connections} connections, one call each, 1000 records", measured)


def compressed(table, count, seconds):
    """gzip and zstd, in and out."""
    for compression in ("gzip", "zstd"):
        with Field(hops(), compression) as field:
            field.compression = "none"
            field.warm_up()
            field.compression = compression
            measured = field.rounds(count, seconds, records=1000)
            table.part(f"{compression}, 1000 records", measured)
            ours = measured[HARBINGER]
            table.target(f"times the collector, {compression}", ratio(ours, measured[COLLECTOR]), 2)
            if compression == "zstd":
                table.target("records per core second, zstd", median(ours, "per_core_s"), 600_000)


def new_templates(table, count, seconds):
    """A share of the records says what nobody has said before."""
    with Field([Harbinger(HARBINGER)]) as field:
        field.warm_up()
        measured = {}
        for share in (0, 0.0001, 0.01, 1):
            rounds = field.rounds(count, seconds, records=1000, new_share=share, pool=64)
            measured[f"{share:.2%} new"] = rounds[HARBINGER]
        table.part("records never said before, 1000 a request", measured)
        warm, flood = measured["0.00% new"], measured["100.00% new"]
        table.target("of the warm wall rate while all is new", ratio(flood, warm, "per_wall_s"), 0.9)


def latency(table, count, seconds):
    """At half of what a hop takes: how much later an answer comes than without a hop."""
    with Field([Direct(DIRECT), Harbinger(HARBINGER), Collector(COLLECTOR)]) as field:
        field.warm_up()
        full = field.rounds(1, seconds, records=100, calls=2)
        rate = full[HARBINGER][0]["per_wall_s"] / 2
        measured = field.rounds(count, seconds, records=100, calls=2, rate=round(rate))
        table.part(f"{rate:,.0f} records a second, 100 a request, answers", measured)
        for quantile in ("p50_us", "p99_us"):
            added = statistics.median(
                ours[quantile] - direct[quantile] for ours, direct in zip(measured[HARBINGER], measured[DIRECT])) / 1000
            if quantile == "p99_us":
                table.target("added at the 99th percentile", added, -2, " ms")
            else:
                print(f"    added at the median: {added:.2f} ms")


PARTS = {"sizes": sizes, "compressed": compressed, "new": new_templates, "latency": latency}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--quick", action="store_true", help="two rounds of a second: shows that it works, measures little")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    arguments = parser.parse_args()
    count, seconds = (2, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    table, before = Table(), machine()
    print(f"{before['cpu']}, {before['cores']} cores, load {before['load_average']:.1f}; {count} rounds of {seconds:g} s")
    for name in arguments.only:
        PARTS[name](table, count, seconds)
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"machine": before, "rounds": count, "seconds": seconds, "targets": table.targets, "parts": table.rounds}
    (OUT / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "plot.svg").write_text(bars(table.rounds))
    met = sum(target["met"] for target in table.targets)
    print(f"\n{met} of {len(table.targets)} targets met; every round in {OUT / 'results.json'}, a picture in {OUT / 'plot.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
