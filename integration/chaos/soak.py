"""`make soak`: far more load than the destination can take, for a while, and the agent's resident memory watched.

Why it exists: what cannot be delivered must be refused, not kept in memory.
In:  minutes; the agent's limits (`max_mib_in_flight`).
Out: a table of what was offered, acknowledged and refused, and of the memory; the worst of it.
Promise: the load does not adapt: whoever is refused comes back after REFUSED_WAIT_SECONDS, whatever is asked of him. The
ceiling is CEILING times the memory of a warm agent, and the bytes that it may hold.
Deliberately absent: failures of other kinds; those are chaos.

    cd integration && python3 -m chaos.soak [--minutes 5]
"""

import argparse
import itertools
import sys
import threading
import time
from collections import Counter

from chaos import wire
from chaos.agent import Agent, Sink
from chaos.sender import GrpcWay
from chaos.sink import Entries
from processes import Stage

CEILING = 3
MIB_IN_FLIGHT = 8
CHANNELS, CALLS_OF_A_CHANNEL = 16, 20
RECORDS = 200
WARM_UP_REQUESTS = 150
REFUSED_WAIT_SECONDS = 0.3
# The destination: so many requests at a time, each taking so long.
PLACES, SLOW_SECONDS = 4, 0.2
ROWS = 12


class Soak(Stage):
    def __init__(self, minutes, deadline_seconds=None):
        self.minutes = minutes
        self.deadline_seconds = deadline_seconds or minutes * 60 + 120
        self.counts, self.said, self.acknowledged = Counter(), Counter(), set()
        self.numbers, self.lock = itertools.count(), threading.Lock()
        self.stopped = threading.Event()
        self.problem = None
        self.rows, self.peak = [], 0

    def play(self):
        self.sink = Sink(self, "--only-ids", "--slow", str(SLOW_SECONDS), "--places", str(PLACES))
        limits = ("max_recv_msg_size_mib=4", f"max_mib_in_flight={MIB_IN_FLIGHT}")
        self.agent = Agent(self, self.sink, sets=[f"receivers.otlp.protocols.grpc.{limit}" for limit in limits])
        self.agent.start()
        self.bodies = [wire.request(0, index, RECORDS) for index in range(50)]
        # Concatenated messages are one: each request begins with a record of its own number.
        self.size = len(self._body(0))
        self._warm_up()
        ways = [GrpcWay(self.agent.grpc) for _ in range(CHANNELS)]
        threads = [
            threading.Thread(target=self._load, args=(way,), daemon=True)
            for way in ways
            for _ in range(CALLS_OF_A_CHANNEL)
        ]
        self.counts.clear()
        self.said.clear()
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        self._watch(begun)
        self.stopped.set()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - begun
        if self.problem:
            raise self.problem
        for way in ways:
            way.close()
        if (code := self.agent.process.kill()) != 0:
            raise AssertionError(f"SIGTERM is a clean end, but the code was {code}\n{self.agent.process.words()}")
        stored = {name for head, _ in Entries(self.sink.journal).new() for name in head.get("ids", ())}
        self.missing = {number for number in self.acknowledged if f"{number:010}-0" not in stored}

    def _body(self, number):
        record = wire.named(f"{number:010}-0")
        scope = wire.block(wire.SCOPE_LOGS, wire.block(wire.LOG_RECORDS, record))
        return wire.block(wire.RESOURCE_LOGS, scope) + self.bodies[number % len(self.bodies)]

    def _send(self, way):
        number = next(self.numbers)
        told = way.send(self._body(number))
        with self.lock:
            self.counts["offered"] += 1
            if told.status == "OK":
                self.counts["acknowledged"] += 1
                self.acknowledged.add(number)
            else:
                self.counts["refused" if told.answered else "unanswered"] += 1
                self.said[told.status[:60]] += 1
        return told.status == "OK"

    def _load(self, way):
        try:
            while not self.stopped.is_set():
                if not self._send(way):
                    self.stopped.wait(REFUSED_WAIT_SECONDS)
        except Exception as problem:  # not lost with the thread
            self.problem = problem

    def _warm_up(self):
        """As much as the destination takes, one after the other on each of its places; then the memory is that of a warm agent."""
        self.left = WARM_UP_REQUESTS

        def some():
            way = GrpcWay(self.agent.grpc)
            while True:
                with self.lock:
                    self.left -= 1
                    if self.left < 0:
                        break
                self._send(way)
            way.close()

        threads = [threading.Thread(target=some, daemon=True) for _ in range(PLACES)]
        for thread in threads:
            thread.start()
        self.wait_until(lambda: not any(t.is_alive() for t in threads), "the agent is warm", [self.agent.process])
        self.warm = self.resident()
        self.ceiling = CEILING * self.warm + MIB_IN_FLIGHT

    def _watch(self, begun):
        until = begun + self.minutes * 60
        every, due = self.minutes * 60 / ROWS, begun

        def over():
            nonlocal due
            now, resident = time.monotonic(), self.resident()
            self.peak = max(self.peak, resident)
            if now >= due:
                due += every
                self.rows.append((now - begun, dict(self.counts), resident))
            return now >= until or self.problem

        self.wait_until(over, "the soak is over", [self.agent.process, self.sink.process])

    def resident(self):
        """Resident memory of the agent in MiB."""
        with open(f"/proc/{self.agent.process.popen.pid}/status", encoding="ascii") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return kib / 1024

    @property
    def sound(self):
        return not self.missing and self.peak <= self.ceiling and self.counts["acknowledged"] > 0

    def report(self):
        lines = ["  seconds   offered  acknowledged   refused  unanswered  resident MiB"]
        for at, counts, resident in self.rows:
            shown = [counts.get(name, 0) for name in ("offered", "acknowledged", "refused", "unanswered")]
            lines.append("  {:>7.0f}  {:>8,}  {:>12,}  {:>8,}  {:>10,}  {:>12.0f}".format(at, *shown, resident))
        times = self.counts["offered"] / max(1, self.counts["acknowledged"])
        lines += [
            f"  requests of {RECORDS} records, {self.size / 1024:.0f} KiB; offered {times:.0f} times what was taken",
            f"  resident MiB: warm {self.warm:.0f}, at most {self.peak:.0f}, ceiling {self.ceiling:.0f}",
            f"  acknowledged and not at the destination: {len(self.missing)}",
            *(f"  {times:>8,} {status}" for status, times in self.said.most_common(6)),
        ]
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    soak = Soak(options.minutes)
    soak.open_stage()
    try:
        soak.play()
        print(soak.report())
        sys.exit(0 if soak.sound else 1)
    finally:
        soak.close_stage()


if __name__ == "__main__":
    main()
