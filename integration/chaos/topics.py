"""Records into a topic at a steady pace, and what has become of them in another one.

Why it exists: who was told by Kafka that it has a message may hold the agents behind it to that.
In:  a plan; the topic to feed, the one to read; when something was broken, and how far the group had committed then.
Out: the ledger of what Kafka acknowledged, and where it lies; each copy beyond the first with its cause.
Promise: a message is acknowledged by all replicas, or it is not in the ledger; what comes out is read by the oracle as any
destination's journal is. A copy has a cause only if its message lay between what was committed when something was broken
and the end of its partition when that was over.
Deliberately absent: what breaks, and when; the tests do that.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass

from chaos.oracle import UNEXPLAINED, Oracle
from chaos.sender import Ledger

from confluent_kafka import Producer

# How long a message is offered to a Kafka that is away.
OFFERED_SECONDS = 120


class Feed(threading.Thread):
    """Puts a plan's requests into a topic, one after the other over its partitions, so many a second, until told to stop."""

    def __init__(self, kafka, topic, plan, per_second):
        super().__init__(daemon=True)
        self.topic, self.plan, self.per_second = topic, plan, per_second
        self.ledger = Ledger(plan)
        # Of each request that Kafka has: its partition and offset there.
        self.places = {}
        self.sent, self.problem = 0, None
        self.partitions = len(kafka.partitions(topic))
        self.stopped = threading.Event()
        self.producer = Producer(kafka.client | {
            "acks": "all", "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": OFFERED_SECONDS * 1000,
            "reconnect.backoff.max.ms": 500})

    def run(self):
        try:
            while not self.stopped.wait(1 / self.per_second):
                if self.sent == len(self.plan.sizes):
                    raise AssertionError("the plan is too short for what the test does")
                self._send(self.sent)
                self.sent += 1
                self.producer.poll(0)
        except Exception as problem:  # not lost with the thread: `stop` raises it
            self.problem = problem

    def _send(self, index):
        body = self.plan.request(index, alone=False)

        def told(error, message):
            if error is None:
                self.places[index] = message.partition(), message.offset()
                self.ledger.sent[index].acknowledged = True

        self.producer.produce(self.topic, body, partition=index % self.partitions, on_delivery=told)

    def stop(self):
        """Returns once every request has been acknowledged, or given up."""
        self.stopped.set()
        self.join()
        if self.problem:
            raise self.problem
        left = self.producer.flush(OFFERED_SECONDS)
        if left:
            raise AssertionError(f"of {left} requests Kafka has said nothing")


@dataclass(frozen=True)
class Broken:
    """What may come twice because of something: for each partition the offsets from `committed` up to `ends`."""

    what: str
    committed: dict
    ends: dict

    def excuses(self, partition, offset):
        return self.committed.get(partition, 0) <= offset < self.ends[partition]


class Outcome:
    """What has come out of the agents: into a topic that `reader` reads, or to a destination with a `journal`."""

    def __init__(self, feed, reader, journal=None):
        self.feed, self.reader, self.read = feed, reader, 0
        self.oracle = Oracle(feed.plan, feed.ledger, journal, alone=False)

    def arrived(self):
        """Reads on; returns how many records have come at least once."""
        if self.reader is None:
            return len(self.oracle.read().copies)
        messages = self.reader.read()
        for message in messages[self.read:]:
            self.oracle.take(message.value(), time.monotonic())
        self.read = len(messages)
        return len(self.oracle.copies)

    def all_there(self):
        """Whether everything that Kafka acknowledged has come."""
        wanted = sum(self.feed.plan.sizes[index] for index in list(self.feed.places))
        return self.arrived() >= wanted and not self.oracle.missing()

    def copies(self, broken):
        """How many records came once more than needed, by cause."""
        causes = Counter()
        for name, copies in self.oracle.copies.items():
            if len(copies) > 1:
                # What Kafka did not acknowledge has no place, and nobody is held to it.
                place = self.feed.places.get(int(name.split("-")[0]))
                cause = next((one.what for one in broken if place and one.excuses(*place)), UNEXPLAINED if place else "not acknowledged")
                causes[cause] += len(copies) - 1
        return causes
