"""Records a second from a topic to a topic: Harbinger judging, beside a plain consumer and producer with the same client settings.

    make bench-kafka                        # five rounds; BENCH_FLAGS="--rounds 9 --messages 400"

In:  a real Kafka, a release build, the recording. Messages are consecutive records of it, 1,000 each; in every message the longer
     numbers are others, so that no two are alike. Both sides are librdkafka's.
Out: for both: records a second by the clock, and a second of its own CPU; the median of the rounds' ratios.
Promises: the two take turns. A round's messages are in the topic before it begins: the process is held meanwhile (SIGSTOP), so neither
     its start nor who fills the topic is measured. A round ends by Kafka's own time of the last message (LogAppendTime), and every
     record of it is committed and counted. Both commit only what has been delivered.
Deliberately absent: Kafka's own CPU, which is of the same machine; more than one member of the group.
"""

import argparse
import gzip
import json
import random
import re
import signal
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 2)[0])

from kafka_server import Kafka

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from bench.rounds import RECORDING, machine, median, ratio
from chaos import wire
from processes import Stage, cpu_s, detection, free_port, harbinger, is_idle
from recorded import records_of

PER_MESSAGE, PARTITIONS = 1000, 4
# What a Collector would have added to each record: with it a message has some 300 kB.
ADDED = {"log.file.path": "/var/log/pods/shop_web-6d5f/app/0.log", "k8s.pod.name": "web-6d5f8c9b7-x2x4z", "k8s.namespace.name": "shop",
         "host.name": "node-17"}
# Long enough for a process that is held; beyond it a group gives its partitions to others.
HELD_SECONDS = 300
MIB = 1024 * 1024
# What the agent's receiver and exporter tell librdkafka by default, and the plain copy too. Without the shorter backoff a partition
# whose queue is full is left alone for a second, and both would be as slow.
CONSUMER = {
    "auto.offset.reset": "earliest", "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": HELD_SECONDS * 1000, "heartbeat.interval.ms": 3000,
    "enable.auto.offset.store": False, "enable.auto.commit": True, "auto.commit.interval.ms": 1000,
    "fetch.min.bytes": 1, "fetch.wait.max.ms": 250, "max.partition.fetch.bytes": MIB, "fetch.max.bytes": MIB, "message.max.bytes": MIB,
    "queued.max.messages.kbytes": 2 * 1024, "fetch.queue.backoff.ms": 10,
}
PRODUCER = {
    "acks": "all", "enable.idempotence": True, "linger.ms": 10, "message.max.bytes": 1_000_000, "batch.size": 1_000_000,
    "batch.num.messages": 10_000, "message.timeout.ms": 5000,
}


def copy(brokers, source, target, compression):
    """The plain one: each message as it is; its offset is stored once it has been delivered. Until it is ended."""
    consumer = Consumer(CONSUMER | {"bootstrap.servers": brokers, "group.id": "plain", "client.id": "plain"})
    producer = Producer(PRODUCER | {"bootstrap.servers": brokers, "client.id": "plain", "compression.type": compression})
    consumer.subscribe([source])
    while True:
        for message in consumer.consume(64, 0.01):
            if message.error():
                raise SystemExit(f"reading: {message.error()}")

            def told(error, _, message=message):
                if error:
                    raise SystemExit(f"writing: {error}")
                consumer.store_offsets(message)

            while True:
                try:
                    # To a partition of the same number: what comes in order is delivered in order, so the offset stored last is the highest.
                    producer.produce(target, message.value(), partition=message.partition(), on_delivery=told)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)


class Contestant:
    """A process from its topic to its other one. `start` leaves it running in `process`."""

    def __init__(self, stage, kafka, name, compression):
        self.stage, self.kafka, self.name, self.compression = stage, kafka, name, compression
        self.source, self.target = f"{name}-in", f"{name}-out"
        kafka.create(self.source, PARTITIONS)
        kafka.create(self.target, PARTITIONS, message_timestamp_type="LogAppendTime")
        self.process = None

    def hold(self):
        self.process.popen.send_signal(signal.SIGSTOP)

    def settled(self):
        return self.kafka.lag(self.name, self.source) == 0

    def wait(self):
        self.stage.wait_until(self.settled, f"{self.name} has delivered and committed all", [self.process])

    def last_written(self):
        """When Kafka wrote the latest message of the other topic, in seconds since 1970."""
        times = []
        for partition, end in self.kafka.ends(self.target).items():
            if end:
                reader = Consumer(self.kafka.client | {"group.id": "times", "auto.offset.reset": "error"})
                reader.assign([TopicPartition(self.target, partition, end - 1)])
                (message,) = reader.consume(1, 30)
                if message.error():
                    raise AssertionError(f"reading: {message.error()}")
                times.append(message.timestamp()[1] / 1000)
                reader.close()
        return max(times)

    def measure(self, messages):
        """One round: through with these messages."""
        self.hold()
        fill(self.kafka, self.source, messages, self.compression)
        written, cpu, begun = self.written(), cpu_s(self.process), time.time()
        self.process.popen.send_signal(signal.SIGCONT)
        self.wait()
        spent = cpu_s(self.process) - cpu
        seconds, records = self.last_written() - begun, len(messages) * PER_MESSAGE
        if (came := self.written() - written) != records:
            raise AssertionError(f"{self.name}: {came} records came of {records}")
        return {"records": records, "wall_s": seconds, "cpu_s": spent, "per_wall_s": records / seconds, "per_core_s": records / spent}


class Plain(Contestant):
    def start(self):
        command = [sys.executable, __file__, "--copy", self.source, self.target, "--compression", self.compression,
                   "--brokers", *self.kafka.brokers]
        self.process = self.stage.start(self.name, command)
        self.stage.wait_until(lambda: self.kafka.members(self.name), "the plain copy has its partitions", [self.process])

    def written(self):
        """Records in the other topic so far: messages come out as they are."""
        return sum(self.kafka.ends(self.target).values()) * PER_MESSAGE


class Harbinger(Contestant):
    def start(self):
        self.health, self.metrics = free_port(), free_port()
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.metrics}}}}
        of = {"brokers": self.kafka.brokers, "client_id": self.name}
        config = {
            "receivers": {"kafka": {
                **of, "group_id": self.name, "initial_offset": "earliest", "session_timeout": f"{HELD_SECONDS}s",
                "logs": {"topics": [self.source], "encoding": "otlp_proto"}}},
            "processors": {"harbinger": {"state": {"directory": str(self.stage.dir / "state")}}},
            "exporters": {"kafka": {
                **of, "logs": {"topic": self.target, "encoding": "otlp_proto"}, "producer": {"compression": self.compression}}},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{self.health}"}},
            "service": {
                "extensions": ["health_check"],
                "pipelines": {"logs": {"receivers": ["kafka"], "processors": ["harbinger"], "exporters": ["kafka"]}},
                "telemetry": {"metrics": {"readers": [reader]}},
            },
        }
        path = self.stage.dir / "harbinger.json"
        path.write_text(json.dumps(config))
        self.process = self.stage.start(self.name, [harbinger(), "run", "--config", str(path)])
        self.stage.wait_for_health(self.health, self.process)

    def warm_up(self, messages):
        """Until it judges, and has seen all that will be sent."""
        while True:
            fill(self.kafka, self.source, messages, self.compression)
            self.wait()
            self.stage.wait_until(lambda: is_idle(self.process), "it has embedded and trained", [self.process])
            if detection(self.health)[1] == "ready":
                return

    def written(self):
        """Records in the other topic so far, counted there: what was split or put together is no matter."""
        if not hasattr(self, "reader"):
            self.reader, self.counted, self.read = self.kafka.reader(self.target), 0, 0
        ends = sum(self.kafka.ends(self.target).values())
        self.stage.wait_until(lambda: len(self.reader.read()) >= ends, "all messages are read", [])
        for message in self.reader.messages[self.read:]:
            self.counted += sum(1 for _ in wire.records(message.value()))
        self.read = len(self.reader.messages)
        return self.counted


def fill(kafka, topic, messages, compression):
    """Puts messages into a topic, over its partitions in turn."""
    producer = Producer(kafka.client | PRODUCER | {"message.timeout.ms": 60_000, "linger.ms": 0, "compression.type": compression})
    for n, message in enumerate(messages):
        while True:
            try:
                producer.produce(topic, message, partition=n % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise AssertionError("Kafka does not take what is to be measured")


class Load:
    """Messages of the recording's records, each time with other numbers in them."""

    NUMBER = re.compile(rb"\d{4,}")

    def __init__(self):
        self.records, self.chance = [], random.Random("bench-kafka")
        with gzip.open(RECORDING, "rt", encoding="utf-8") as lines:
            for line in lines:
                request = json.loads(line)
                for resource in request["resourceLogs"]:
                    service = next(one["value"]["stringValue"] for one in resource["resource"]["attributes"] if one["key"] == "service.name")
                    self.records += [(service.encode(), self.parts(record)) for record in records_of({"resourceLogs": [resource]})]
        self.at = 0

    @staticmethod
    def parts(record):
        """Before the body, the body's text, behind it."""
        attributes = [wire.block(wire.ATTRIBUTES, wire.attribute(one["key"].encode(), wire.text(one["value"].get("stringValue", ""))))
                      for one in record.get("attributes", [])]
        attributes += [wire.block(wire.ATTRIBUTES, wire.attribute(key.encode(), wire.text(value))) for key, value in ADDED.items()]
        before = wire.fixed64(1, int(record["timeUnixNano"])) + wire.number(2, record.get("severityNumber", 0))
        return before, record["body"]["stringValue"].encode(), b"".join(attributes)

    def other(self, found):
        return str(self.chance.randrange(10 ** (len(found[0]) - 1), 10 ** len(found[0]))).encode()

    def message(self):
        services = {}
        for _ in range(PER_MESSAGE):
            service, (before, body, behind) = self.records[self.at]
            self.at = (self.at + 1) % len(self.records)
            text = wire.block(5, wire.block(wire.STRING, self.NUMBER.sub(self.other, body)))
            services.setdefault(service, []).append(wire.block(wire.LOG_RECORDS, before + text + behind))
        return b"".join(
            wire.block(wire.RESOURCE_LOGS,
                       wire.block(1, wire.block(1, wire.attribute(b"service.name", wire.text(service.decode()))))
                       + wire.block(wire.SCOPE_LOGS, b"".join(records)))
            for service, records in services.items())

    def messages(self, count):
        return [self.message() for _ in range(count)]


class Bench(Stage):
    deadline_seconds = 1800

    def run(self, rounds, count, compression):
        self.open_stage()
        kafka = None
        try:
            load, kafka = Load(), Kafka(self).start()
            ours, plain = both = Harbinger(self, kafka, "harbinger", compression), Plain(self, kafka, "plain", compression)
            for one in both:
                one.start()
            ours.warm_up(load.messages(len(load.records) // PER_MESSAGE + 1))
            plain.measure(load.messages(20)), ours.measure(load.messages(20))
            measured = {one.name: [] for one in both}
            for _ in range(rounds):
                messages = load.messages(count)
                for one in both:
                    measured[one.name].append(one.measure(messages))
            self.tell(measured, sum(map(len, messages)) / count)
        finally:
            if kafka:
                kafka.close()
            self.close_stage()

    @staticmethod
    def tell(measured, size):
        here = machine()
        print(f"{here['cpu']}, {here['cores']} cores, load {here['load_average']:.1f}; messages of {PER_MESSAGE:,} records, {size / 1000:,.0f} kB")
        for name, rounds in measured.items():
            by_round = " ".join(f"{one['per_wall_s']:,.0f}" for one in rounds)
            print(f"  {name:<10} {median(rounds, 'per_wall_s'):>10,.0f} records/s   {median(rounds, 'per_core_s'):>10,.0f} a second of its CPU"
                  f"   (rounds: {by_round})")
        clock, core = (ratio(measured["harbinger"], measured["plain"], key) for key in ("per_wall_s", "per_core_s"))
        print(f"  harbinger / plain: {clock:.2f} by the clock, {core:.2f} by its own CPU (medians of the rounds' ratios)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200, help="in each round, of 1,000 records")
    parser.add_argument("--compression", default="none", choices=("none", "gzip", "snappy", "lz4", "zstd"), help="in both topics")
    parser.add_argument("--quick", action="store_true", help="two short rounds, for a look")
    parser.add_argument("--copy", nargs=2, metavar=("FROM", "TO"), help="be the plain one")
    parser.add_argument("--brokers", nargs="+")
    options = parser.parse_args()
    if options.copy:
        copy(",".join(options.brokers), *options.copy, options.compression)
    rounds, messages = (2, 40) if options.quick else (options.rounds, options.messages)
    Bench().run(rounds, messages, options.compression)


if __name__ == "__main__":
    main()
