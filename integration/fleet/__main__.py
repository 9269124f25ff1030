"""Three agents that share incidents beside one agent, and three that share nothing: the same stream, a table. See run.py.

    cd integration && python3 -m fleet                              # recording and overlap60, one agent and three
    python3 -m fleet --set recording --fleets one,three,apart       # apart: three that share nothing
    python3 -m fleet --set overlap60 --fleets three --speed 10
    python3 -m fleet --disturbed                                    # kills and outages
    python3 -m fleet --disturbed --apart                            # the same, of agents that share nothing

Ends with 1 if a record is missing, changed, or came twice without a cause.
"""

import argparse
import sys
import time

from fleet import run as runs
from fleet.agents import takes_cluster
from fleet.figures import table
from fleet.streams import OVERLAP60, STREAMS
from kafka_server import Kafka
from processes import Stage

# What a fleet is called: agents, and whether they share.
FLEETS = {"one": (1, False), "one-again": (1, False), "three": (3, True), "three-again": (3, True), "apart": (3, False)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=(*STREAMS, "all"), default="all")
    parser.add_argument("--fleets", default="one,three", help=f"of {', '.join(FLEETS)}; the first is what the others are compared with")
    parser.add_argument("--speed", type=float, default=20, help="times as fast as it happened")
    parser.add_argument("--minutes", type=float, help="of the stream; all of it without")
    parser.add_argument("--whole", action="store_true", help="what one service says at one instant stays in one request")
    parser.add_argument("--in-turn", action="store_true", help="one fleet after the other, not all at once")
    parser.add_argument("--disturbed", action="store_true", help="kills and outages, instead")
    parser.add_argument("--apart", action="store_true", help="with --disturbed: the agents share nothing")
    parser.add_argument("--away", type=float, default=60, help="with --disturbed: seconds without Kafka")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs, states and journals behind")
    options = parser.parse_args()
    names = options.fleets.split(",")

    stage = Stage()
    # Of each comparison.
    stage.deadline_seconds = 600
    stage.open_stage()
    sound = True
    try:
        if (options.disturbed and not options.apart) or any(FLEETS[name][1] for name in names) and not options.disturbed:
            words = takes_cluster(stage.dir)
            if words is not None:
                sys.exit(f"the program knows no cluster:\n{words}\n--fleets one,apart and --apart can do without")
        gateway = runs.Gateway()
        kafka = Kafka(stage, gates=[gateway]).start()
        if options.disturbed:
            run, figures, happened = runs.disturbed(stage, kafka, gateway, STREAMS["recording"](), not options.apart, options.away)
            print("\n".join(happened))
            sound &= report(run)
            print(table([figures]))
        else:
            for name in STREAMS if options.set == "all" else [options.set]:
                stream = STREAMS[name](options.whole)
                if stream is None:
                    print(f"{name}: {OVERLAP60} is not there; set HARBINGER_DATA_DIR")
                    continue
                if options.minutes:
                    stream = stream.between(0, options.minutes * 60)
                sound &= compare(stage, kafka, stream, names, options)
        kafka.close()
        gateway.close()
    finally:
        stage.close_stage(options.keep)
        if options.keep:
            print(f"left behind: {stage.dir}")
    sys.exit(0 if sound else 1)


def compare(stage, kafka, stream, names, options):
    begun, sound, figures = time.monotonic(), True, {}
    fleets = [(name, *FLEETS[name]) for name in names]
    for some in [[one] for one in fleets] if options.in_turn else [fleets]:
        stage.deadline = time.monotonic() + stage.deadline_seconds
        run, found = runs.calm(stage, kafka, stream, options.speed, some)
        figures |= found
        sound &= report(run)
        print(f"the stream waited {run.feed.waited:.0f} s for the agents")
        for fleet in run.fleets:
            fleet.end()
    print(f"\n{stream.name}: {len(stream):,} records, {stream.seconds / 60:.1f} minutes at {options.speed:g}×, {time.monotonic() - begun:.0f} s")
    print(table(list(figures.values()), beside=figures[names[0]]), flush=True)
    return sound


def report(run):
    """What the oracle says."""
    sound = True
    for fleet in run.fleets:
        missing, changed, copies = run.oracle(fleet)
        print(f"{fleet.group}: {len(missing)} missing, {len(changed)} changed, copies: {runs.told(copies)}")
        sound &= not (missing or changed or runs.unexplained(copies))
    return sound


if __name__ == "__main__":
    main()
