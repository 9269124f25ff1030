"""What will happen in a run, drawn in advance from one seed.

Why it exists: a run that found something can be replayed.
In:  a seed and how much of everything.
Out: a `Plan`: the sizes of the requests, and events in order.
Promise: the same arguments give the same plan, byte for byte of what is sent included. Events stand at counts of
acknowledged records, so a slower machine gets the same run; only while nobody is acknowledged (the destination is down)
there is nothing but the clock to count by.
Deliberately absent: how threads and processes interleave. That no seed can hold.
"""

import random
from dataclasses import dataclass

from chaos import wire

# How the destination fails, and what is said of it in the report.
MODES = {
    "absent": "nobody listens, connections are cut",
    "unavailable": "answers UNAVAILABLE",
    "throttling": "answers RESOURCE_EXHAUSTED with RetryInfo",
    "exhausted": "answers RESOURCE_EXHAUSTED without RetryInfo, which is for good, to some requests, then UNAVAILABLE",
    "hanging": "takes requests and never answers",
    "mute": "stores requests and never answers",
    "cutting": "stores requests and cuts the connection",
    "lying": "stores requests but for some records, which it says it rejected (partial_success)",
}
WELL = "well"

# The share of a run's time in which the destination is not well, to be reached after each outage.
DOWN_SHARE = 0.36
LARGEST_REQUEST = 200


@dataclass(frozen=True)
class Event:
    """`kind` is outage, kill or disk; `at` the count of acknowledged records it waits for."""

    at: int
    kind: str
    # An outage's way of failing, and the least it lasts; for how many answers a disk is full.
    mode: str = ""
    seconds: float = 0.0
    answers: int = 0
    # In an outage: when after its beginning the agent is killed.
    kills: tuple = ()

    def __str__(self):
        more = {
            "outage": f"{self.mode}, {self.seconds:.2f} s at least"
            + "".join(f", kill after {after:.2f} s" for after in self.kills),
            "disk": f"full for {self.answers} answers",
            "kill": "",
        }[self.kind]
        return f"at {self.at:>7} {self.kind:<6} {more}".rstrip()


@dataclass(frozen=True)
class Plan:
    seed: int
    sizes: tuple
    events: tuple

    @property
    def records(self):
        return sum(self.sizes)

    def request(self, index, alone=True):
        """The bytes of the request of that number; `alone` as in wire.request."""
        return wire.request(self.seed, index, self.sizes[index], alone)


def draw(seed, records, kills):
    """The plan of a run. Every mode comes at least once."""
    chance = random.Random(f"plan/{seed}")
    sizes, left = [], records
    while left:
        size = chance.randint(1, chance.choice((5, 40, 40, LARGEST_REQUEST)))
        sizes.append(min(size, left))
        left -= sizes[-1]

    modes = []
    while len(modes) < max(len(MODES), records // 6_000):
        modes += chance.sample(list(MODES), len(MODES))
    within = {n: [] for n in range(len(modes))}
    events = []
    for _ in range(kills):
        if chance.random() < 0.5:
            within[chance.randrange(len(modes))].append(chance.uniform(0, 0.8))
        else:
            events.append(Event(int(records * chance.uniform(0.02, 0.95)), "kill"))
    for n, mode in enumerate(modes):
        # One in each stretch of the run, none at its very end.
        at = int(records * 0.95 * (n + chance.random()) / len(modes))
        events.append(Event(at, "outage", mode, chance.uniform(0.8, 1.5), kills=tuple(sorted(within[n]))))
    for _ in range(max(1, records // 30_000)):
        at = int(records * chance.uniform(0.05, 0.9))
        events.append(Event(at, "disk", answers=chance.randint(20, 80)))
    return Plan(seed, tuple(sizes), tuple(sorted(events, key=lambda event: event.at)))
