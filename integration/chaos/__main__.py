"""`make chaos`: see run.py for what happens, schedule.py for when.

    cd integration && python3 -m chaos [--seed N] [--records 100000] [--kills 20] [--profile plain|queue|all]

Ends with 1 if an acknowledged record is missing or changed, or came twice without a cause.
"""

import argparse
import random
import sys

from chaos.agent import layers, refusal
from chaos.run import Run
from chaos.schedule import MODES, draw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="replay this schedule; a new one is drawn without it")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of the agent")
    parser.add_argument("--profile", choices=("plain", "queue", "all"), default="all", help="without or with sending_queue")
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--minutes", type=float, default=20, help="each profile must be done by then")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs and journal behind")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    plan = draw(seed, options.records, options.kills)
    again = f"seed {seed}: make chaos CHAOS_FLAGS=\"--seed {seed} --records {options.records} --kills {options.kills}\""
    print(again)
    for event in plan.events:
        print(f"  {event}")
    for mode, means in MODES.items():
        print(f"  {mode:<12} {means}")

    sound = True
    for queue in {"plain": [False], "queue": [True], "all": [False, True]}[options.profile]:
        name = f"{'with' if queue else 'without'} a queue, {options.protocol}"
        words = refusal(layers(queue, options.protocol))
        if words is not None:
            print(f"\n{name}: not run, as the program refuses its configuration:\n{words}")
            continue
        print(f"\n{name}:", flush=True)
        run = Run(plan, queue, options.protocol, options.minutes * 60)
        run.open_stage()
        found = None
        try:
            found = run.play()
            print(run.report(found), flush=True)
            sound &= found.sound
        except AssertionError as problem:
            print(problem)
            sound = False
        finally:
            run.close_stage(options.keep)
            if options.keep:
                print(f"  left behind: {run.dir}")
    print(("sound. " if sound else "NOT SOUND. ") + again)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
