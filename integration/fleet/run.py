"""A stream through fleets of agents: in peace, or with everything that happens to agents and brokers.

In:  a stage, a Kafka, a stream, how fast, which fleets.
Out: the `Figures` of each fleet; and what the oracle of chaos/ says of every record.
Promise: all fleets read the same topic, each as a group of its own, so they get the same messages at the same moments; a fleet is asked
about incidents once all that Kafka acknowledged has come out and is committed.
Deliberately absent: what is good enough; test_cluster.py says that.
"""

import asyncio
import itertools
import signal
import threading
import time

from chaos import wire
from chaos.oracle import UNEXPLAINED
from chaos.sink import HOST as GATE_HOST
from chaos.sink import Gate
from chaos.topics import Broken, Feed, Outcome
from fleet.agents import Fleet
from fleet.figures import CLUSTER, Figures
from kafka_server import HOST, quiet_port
from processes import LOOK_EVERY, is_idle

PARTITIONS = 6
# How long agents may take to agree, once all is there.
AGREEMENT_SECONDS = 30
# What is only learned from goes so much faster than it happened.
WARM_SPEED = 60
# Nor is anything sent that is not embedded yet after so many records, until all are ready: in life the model is as fast as that.
LEARNED_RECORDS = 100
# How many seconds of the stream a fleet may be behind before the stream waits for it.
MOST_BEHIND = 4
RUNS = itertools.count()
METRICS = (*CLUSTER.values(), "harbinger_cluster_members")


class Paced(Feed):
    """Feeds a stream as it happened, so many times as fast. `speeds`: (from this second of the stream on, this fast), in order.
    At the second `hold` it stands until it is told to go on, as after a warm-up. As long as `waits` is set it waits for whoever among
    `fleets` is further behind than the stream would let them be in life: before that with learning, then with answering."""

    def __init__(self, kafka, topic, stream, speeds, hold, fleets):
        super().__init__(kafka, topic, stream, per_second=0)
        self.fleets, self.waited, self.unlearned = fleets, 0.0, 0
        self.speeds = speeds
        self.due = self._due()
        self.held_at = next((index for index in range(len(stream.sizes)) if stream.at(index) >= hold), None)
        self.holds, self.go_on = threading.Event(), threading.Event()
        self.waits = True

    def _due(self):
        """Seconds after the beginning at which each request is sent."""
        due, now, before = [], 0.0, 0.0
        for index in range(len(self.plan.sizes)):
            at = max(before, self.plan.at(index))
            for (start, speed), (end, _) in zip(self.speeds, (*self.speeds[1:], (float("inf"), 0))):
                now += max(0.0, min(at, end) - max(before, start)) / speed
            due.append(now)
            before = at
        return due

    def run(self):
        try:
            begin = time.monotonic()
            for index, due in enumerate(self.due):
                if self.held_at is not None and index < self.held_at and self.waits:
                    begin += self._learned(index)
                if index == self.held_at:
                    self.producer.flush()
                    self.holds.set()
                    self.go_on.wait()
                    begin = time.monotonic() - due
                    seen = [Seen(fleet, self.plan) for fleet in self.fleets]
                # In life the model, a training or a broker's answer takes no more seconds of the stream than of the clock.
                while self.held_at is not None and index > self.held_at and self.waits and not self.stopped.is_set() \
                        and (self.plan.at(index) - min(one.second() for one in seen) > MOST_BEHIND or self.somebody_trains()):
                    self.stopped.wait(LOOK_EVERY / 5)
                    begin += LOOK_EVERY / 5
                    self.waited += LOOK_EVERY / 5
                # The pace, not a wait for anything.
                if self.stopped.wait(max(0.0, begin + due - time.monotonic())):
                    return
                self._send(index)
                self.sent += 1
                self.producer.poll(0)
            # Until all is acknowledged, what is sent last too.
            while self.producer.flush(0.2) and not self.stopped.is_set():
                pass
        except Exception as problem:  # not lost with the thread: `stop` raises it
            self.problem = problem

    def _learned(self, index):
        """Waits, after so many records, until all are embedded, so that a first training is where it is in life; for how many seconds."""
        self.unlearned += self.plan.sizes[index]
        if self.unlearned < LEARNED_RECORDS:
            return 0.0
        begun, self.unlearned = time.monotonic(), 0
        self.producer.flush()
        agents = [agent for fleet in self.fleets for agent in fleet.running()]
        while not self.stopped.is_set() and not all(agent.is_ready() for agent in agents) and not is_idle(*(agent.process for agent in agents)):
            pass
        return time.monotonic() - begun

    def somebody_trains(self):
        return any(agent.trains() for fleet in self.fleets for agent in fleet.running())

    @property
    def second(self):
        """Of the stream, how far it has come."""
        return self.plan.at(min(self.sent, len(self.plan.sizes) - 1))


class Seen:
    """How far a fleet is with a stream: all before that request has come out."""

    def __init__(self, fleet, stream):
        self.fleet, self.stream, self.read, self.index = fleet, stream, 0, 0
        self.left = [set(range(size)) for size in stream.sizes]

    def second(self):
        """Of the stream, what has not come out yet at the earliest."""
        stored = self.fleet.read()
        while self.read < len(stored):
            for name in wire.ID_IN_BYTES.findall(stored[self.read].body):
                index, number = map(int, name.split(b"-"))
                self.left[index].discard(number)
            self.read += 1
        while self.index < len(self.left) and not self.left[self.index]:
            self.index += 1
        return self.stream.at(self.index) if self.index < len(self.left) else float("inf")


class Gateway:
    """A gate before Kafka, for the cluster's traffic alone: closed, Kafka is away for that and for nothing else."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.behind = quiet_port()
        self.gate = Gate(self.behind, HOST)
        self.open()
        self.address = f"{GATE_HOST}:{self.gate.port}"

    def _do(self, what):
        asyncio.run_coroutine_threadsafe(what(), self.loop).result()

    def open(self):
        self._do(self.gate.open)

    def shut(self):
        """Cuts what is connected, and lets nobody in."""
        self._do(self.gate.close)

    def close(self):
        self.shut()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Run:
    """Fleets that read one topic; until the second `warm` of the stream they learn."""

    def __init__(self, stage, kafka, stream, speeds, warm):
        self.stage, self.kafka, self.stream = stage, kafka, stream
        self.number = next(RUNS)
        self.topic = f"{stream.name}-{self.number}"
        kafka.create(self.topic, PARTITIONS)
        self.fleets, self.outcomes, self.broken = [], {}, []
        self.feed = Paced(kafka, self.topic, stream, speeds, warm, self.fleets)

    def fleet(self, name, agents, cluster=False, brokers=None, start=True):
        """A fleet of that many agents, started; with `cluster` they share what they see through `brokers`, topics of their own."""
        group = f"{name}-{self.number}"
        settings = cluster and {
            "brokers": brokers or self.kafka.brokers, "log_topic": f"{group}-incidents", "memory_topic": f"{group}-memory"} or None
        names = [f"{name}-{letter}" for letter in "abcdef"[:agents]]
        fleet = Fleet(self.stage, self.kafka, self.topic, name, group, names, self.stream.warm_up_records, settings)
        self.fleets.append(fleet)
        self.outcomes[fleet.group] = Outcome(self.feed, fleet)
        return fleet.start() if start else fleet

    def processes(self):
        return [process for fleet in self.fleets for process in fleet.processes()]

    def warm_up(self):
        """Begins to feed; returns once every agent has learned what comes before the second `warm`, and what comes then is on its way.
        The model has all the time that it needs meanwhile, however busy the machine is."""
        self.feed.start()
        self.stage.wait_until(lambda: self.feed.problem or self.feed.holds.is_set() or not self.feed.is_alive(), "the warm-up is sent", self.processes())
        for fleet in self.fleets:
            self.stage.wait_until(lambda: self.kafka.lag(fleet.group, self.topic) == 0, f"{fleet.group} has committed the warm-up", fleet.processes())
            self.stage.wait_until(lambda: all(agent.is_ready() for agent in fleet.running()), f"{fleet.group} is ready", fleet.processes())
            self.stage.wait_until(lambda: is_idle(*fleet.processes()), f"{fleet.group} has embedded what it learned from", fleet.processes())
        self.feed.go_on.set()

    def until(self, second):
        """Until the feed has come to that second of the stream."""
        self.stage.wait_until(lambda: self.feed.problem or self.feed.second >= second or not self.feed.is_alive(),
                              f"second {second} of {self.stream.name}", self.processes())

    def all_fed(self):
        """Until all has been sent and acknowledged."""
        self.stage.wait_until(lambda: not self.feed.is_alive(), "all is sent", self.processes())
        self.feed.stop()
        if len(self.feed.places) != len(self.stream.sizes):
            raise AssertionError(f"Kafka has acknowledged {len(self.feed.places)} of {len(self.stream.sizes)} messages")

    def all_out(self):
        """Until all that Kafka has is at the destinations, and committed."""
        for fleet in self.fleets:
            self.stage.wait_until(self.outcomes[fleet.group].all_there, f"all that Kafka acknowledged has come out of {fleet.group}", fleet.processes())
            self.stage.wait_until(lambda fleet=fleet: self.kafka.lag(fleet.group, self.topic) == 0, f"{fleet.group} has committed all", fleet.processes())

    def oracle(self, fleet):
        """What the oracle says once all is there: (missing, changed, copies by cause)."""
        outcome = self.outcomes[fleet.group]
        outcome.arrived()
        return outcome.oracle.missing(), outcome.oracle.changed, outcome.copies(self.broken)

    def figures(self, fleet, name=None):
        """Asked for once the agents agree, or have had their time."""
        figures = Figures(name or fleet.group, self.stream).take(fleet.read())
        until = time.monotonic() + (AGREEMENT_SECONDS if fleet.cluster else 0)

        def agreed():
            figures.names = {agent.name: agent.names(figures.ids) for agent in fleet.running()}
            return not figures.unknown and figures.among() == 1.0 or time.monotonic() > until

        self.stage.wait_until(agreed, "the agents agree", fleet.processes())
        figures.metrics = {agent.name: {metric: agent.metric(metric) for metric in METRICS} for agent in fleet.running()}
        return figures

    # What happens to them.

    def breaks(self, fleet, what, do):
        """Does it; afterwards the group has committed all that was there by then, so that causes do not overlap."""
        self.stage.wait_until(lambda: self.kafka.committed(fleet.group, self.topic) is not None, "Kafka answers")
        committed = self.kafka.committed(fleet.group, self.topic)
        do()
        self.stage.wait_until(lambda: self.kafka.ends(self.topic) is not None, "Kafka answers")
        ends = self.kafka.ends(self.topic)
        self.broken.append(Broken(what, committed, ends))

        def past():
            committed = self.kafka.committed(fleet.group, self.topic)
            return committed is not None and all(committed.get(one, 0) >= end for one, end in ends.items())

        self.stage.wait_until(past, f"what was there is committed after: {what}", fleet.processes())

    def kafka_away(self, seconds):
        """All nodes stop in the middle of a word, and go on after so many seconds."""
        processes = [node.process.popen for node in self.kafka.nodes]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            threading.Event().wait(seconds)  # what is done to them, not a wait for anything
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)


def calm(stage, kafka, stream, speed, fleets):
    """A stream through fleets, all at once; `fleets`: (name, agents, whether they share). Returns the run, and figures by name."""
    run = Run(stage, kafka, stream, [(0, WARM_SPEED), (stream.warm, speed)], stream.warm)
    for name, agents, cluster in fleets:
        run.fleet(name, agents, cluster)
    run.warm_up()
    run.all_fed()
    run.all_out()
    return run, {name: run.figures(fleet, name) for fleet, (name, _, _) in zip(run.fleets, fleets)}


# The disturbed run: the recording from its beginning to the end of its third fault; seconds of the stream. Fast where only learning
# and healthy lines are, slow in the faults: a minute without Kafka is four of the stream there, fifteen elsewhere.
WARM, FIRST, BETWEEN, SECOND, END = 870, 897, 985, 1300, 1440
SPEEDS = [(0, WARM_SPEED), (WARM, 4), (BETWEEN, 16), (SECOND, 4)]


def disturbed(stage, kafka, gateway, stream, cluster=True, away=60):
    """Two agents, then three, and all that can happen; returns the run, its figures and what happened, in words."""
    run = Run(stage, kafka, stream.between(0, END), SPEEDS, WARM)
    fleet = run.fleet("three", 3, cluster, gateway and [gateway.address], start=False)
    a, b, c = fleet.agents
    fleet.start([a, b])
    happened = []

    def now(what):
        happened.append(f"{run.feed.second:7.1f} s  {what}")

    run.feed.waits = False
    run.warm_up()
    run.until(FIRST + 5)
    if cluster:
        now("Kafka away for the cluster alone")
        gateway.shut()
        run.until(FIRST + 35)
        now("and back")
        gateway.open()
        fleet.wait_for_members()
    run.until(FIRST + 50)
    now("an agent killed")
    run.breaks(fleet, "an agent killed", a.kill)
    now("and started again")
    a.start()
    fleet.wait_for_group()
    run.until(BETWEEN)
    now("an agent added")
    c.start()
    fleet.wait_for_group()
    now("the broker restarted")
    run.breaks(fleet, "the broker restarted", lambda: (kafka.stop(signal.SIGKILL), kafka.start()))
    fleet.wait_for_group()
    run.until(SECOND + 20)
    now(f"Kafka away for {away} s")
    run.breaks(fleet, "Kafka away", lambda: run.kafka_away(away))
    now("all has come back")
    fleet.wait_for_group()
    run.all_fed()
    run.all_out()
    return run, run.figures(fleet, "disturbed"), happened


def told(copies):
    return ", ".join(f"{count} by {what}" for what, count in copies.items()) or "none"


def unexplained(copies):
    return copies[UNEXPLAINED]
