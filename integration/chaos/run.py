"""A run of chaos: senders, the agent and its destination as real processes, and a director who follows the schedule.

Why it exists: an acknowledged record is delivered or on disk, whatever breaks. This is where that is tried.
In:  a seed, how many records, how many kills, the profile.
Out: a report; the findings.
Promise: nothing is decided here but when the schedule's next event is due. In the end the destination is well, everything
is acknowledged (or refused for good, as it was told), drained, and the agent ends in order.
Deliberately absent: judgement; that is the oracle's.
"""

import signal
import time
from collections import Counter

from chaos import schedule
from chaos.agent import Agent, Sink, layers
from chaos.oracle import Oracle
from chaos.sender import Ledger, Senders
from processes import Stage

CONNECTIONS = 8
# A queue that has had nothing for a destination that is well for so long has nothing more: retries come every 500 ms.
STALL_SECONDS = 10
# With a queue everybody is acknowledged at once, and the run would be over before anything has happened. So the senders are
# held at each event until it begins, and then run to the next one, or for this share of the records.
LEAST_SHARE = 0.02


class Run(Stage):
    def __init__(self, plan, queue=False, protocol="grpc", deadline_seconds=600):
        self.deadline_seconds = deadline_seconds
        self.plan, self.queue, self.protocol = plan, queue, protocol
        self.kills, self.mode_seconds = [], Counter()
        self.disk_full_answers = 0
        self.dead_letters = 0

    def play(self):
        """The whole run; returns the findings."""
        self.sink = Sink(self)
        self.agent = Agent(self, self.sink, layers(self.queue, self.protocol))
        self.agent.start()
        self.ledger = Ledger(self.plan)
        self.oracle = Oracle(self.plan, self.ledger, self.sink.journal)
        address = {"grpc": self.agent.grpc, "http": self.agent.http}[self.protocol]
        connections = CONNECTIONS if self.plan.records >= 20_000 else CONNECTIONS // 2
        self.senders = Senders(self.plan, self.ledger, self.protocol, address, connections)
        if self.queue and self.plan.events:
            self.senders.hold_at = self.plan.events[0].at
        self.begun = self.turned = time.monotonic()
        self.senders.start()
        try:
            following = [event.at for event in self.plan.events[1:]] + [self.plan.records]
            for event, self.next_at in zip(self.plan.events, following):
                self._wait(lambda: self.ledger.settled_records >= event.at, f"{event.at} records are acknowledged")
                getattr(self, event.kind)(event)
            self.senders.hold_at = self.plan.records
            self._wait(self.senders.done, "every request is acknowledged or refused for good")
        finally:
            self.senders.stop()
        self._turn(schedule.WELL)
        if self.queue:
            self._drain()
        self._end("SIGTERM is a clean end")
        if self.queue:
            self._requeue()
        self.seconds = time.monotonic() - self.begun
        return self.oracle.read().findings(self.kills)

    def _go_on(self):
        """Lets the senders run to the next event."""
        if self.queue:
            least = self.ledger.acknowledged_records + int(LEAST_SHARE * self.plan.records)
            self.senders.hold_at = max(self.next_at, least)

    def _down(self):
        return sum(seconds for mode, seconds in self.mode_seconds.items() if mode != schedule.WELL)

    def outage(self, event):
        if self.queue:
            # The senders notice nothing, so it is the destination that must have had its time to be well.
            self._wait(
                lambda: self._down() <= schedule.DOWN_SHARE * (time.monotonic() - self.begun), "time for another outage"
            )
        self._turn(event.mode)
        self._go_on()
        begun = time.monotonic()
        for after in event.kills:
            self._wait(lambda: time.monotonic() >= begun + after, "the kill within the outage")
            self._kill()

        def enough():
            now = time.monotonic()
            down = self._down() + now - begun
            long_enough = down >= schedule.DOWN_SHARE * (now - self.begun) and now >= begun + event.seconds
            # Nobody is left who would notice.
            return long_enough or (now >= begun + event.seconds and self.senders.done())

        self._wait(enough, f"the outage ({event.mode}) is over")
        self._turn(schedule.WELL)

    def kill(self, _event):
        # In mid-stream.
        self._go_on()
        before = self.ledger.answers
        self._wait(lambda: self.ledger.answers > before or self.senders.done(), "one more answer")
        self._kill()

    def _kill(self):
        self.kills.append(time.monotonic())
        self.agent.process.kill(signal.SIGKILL)
        self.agent.start()

    def disk(self, event):
        before = self.ledger.answers
        self.senders.hold_at = self.plan.records
        self.agent.fill_disk()
        self._wait(
            lambda: self.ledger.answers >= before + event.answers or self.senders.done(),
            f"{event.answers} answers with a full disk",
        )
        self.disk_full_answers += self.ledger.answers - before
        self.agent.empty_disk()
        self._go_on()

    def _wait(self, condition, what):
        def look():
            self.senders.done()  # raises what a sender died of
            return condition()

        self.wait_until(look, what, [self.sink.process, self.agent.process])

    def _turn(self, mode):
        now = time.monotonic()
        self.mode_seconds[self.sink.mode] += now - self.turned
        self.turned = now
        self.sink.turn(mode)

    def _drain(self):
        """Waits until the destination has all, or nothing new comes any more."""
        moved, seen = time.monotonic(), -1

        def empty():
            nonlocal moved, seen
            if self.oracle.read().stored_requests != seen:
                moved, seen = time.monotonic(), self.oracle.stored_requests
            return not self.oracle.missing() or time.monotonic() > moved + STALL_SECONDS

        self.wait_until(empty, "the queue drains", [self.sink.process, self.agent.process])

    def _end(self, what):
        code = self.agent.process.kill(signal.SIGTERM)
        if code != 0:
            raise AssertionError(f"{what}, but the code was {code}\n{self.agent.process.words()}")

    def _requeue(self):
        """What the destination refused for good is a dead letter: it is put back, and must arrive."""
        listed = self.agent.command("dead-letters", "list", "--directory", str(self.agent.queue))
        self.dead_letters = sum("chaos: never" in line for line in listed.stdout.splitlines())
        if not self.oracle.read().missing():
            return
        done = self.agent.command("dead-letters", "requeue", "--all", "--directory", str(self.agent.queue))
        if done.returncode != 0:
            raise AssertionError(f"`harbinger dead-letters requeue` failed:\n{done.stdout}{done.stderr}")
        self.agent.start()
        self._drain()
        self._end("SIGTERM is a clean end, also after a requeue")

    def report(self, found):
        """The run in a table."""
        total = sum(self.mode_seconds.values()) or 1
        down = total - self.mode_seconds[schedule.WELL]
        copies = sum(found.duplicates.values())
        attempts = sum(len(sent.attempts) for sent in self.ledger.sent)
        refused = Counter(sent.refused for sent in self.ledger.sent if sent.refused)
        rows = [
            ("records", f"{self.plan.records:,} in {len(self.plan.sizes):,} requests, {attempts:,} attempts"),
            ("acknowledged", f"{self.plan.records - found.not_acknowledged:,}"),
            ("refused for good", f"{found.not_acknowledged:,}, {found.arrived_all_the_same:,} of them arrived all the same"),
            *((f"  {why[:60]}", f"{times:,} requests") for why, times in refused.items()),
            ("rejected, as told", f"{found.rejected:,}"),
            ("arrived", f"{found.arrived:,}"),
            ("missing", f"{len(found.missing):,}" + _some(found.missing)),
            ("changed", f"{len(found.changed):,}" + _some(f"{name}: {why}" for name, why in found.changed)),
            ("duplicates", f"{copies:,}"),
            *((f"  {cause}", f"{times:,}") for cause, times in found.duplicates.most_common()),
            ("  judged otherwise", f"{found.unlike_copies:,}"),
            ("anomalous; in incidents", f"{found.anomalous:,}; {found.in_incidents:,}"),
            ("kills", f"{len(self.kills)}"),
            ("answers with a full disk", f"{self.disk_full_answers:,}"),
            ("seconds", f"{self.seconds:.1f}, destination not well {down:.1f} ({100 * down / total:.0f} %)"),
            *((f"  {mode}", f"{seconds:.1f}") for mode, seconds in self.mode_seconds.most_common()),
        ]
        if self.queue:
            rows.append(("dead letters, put back", f"{self.dead_letters:,}"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _some(items, most=5):
    items = list(items)
    if not items:
        return ""
    return ": " + ", ".join(str(item) for item in items[:most]) + (", …" if len(items) > most else "")
