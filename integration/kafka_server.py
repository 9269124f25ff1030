"""A real Apache Kafka (fetched by kafka/build.sh): one broker or several, and questions to it.

What enters: a stage that starts processes; topics to make. What leaves: messages, the ends of partitions, what a consumer group has
committed and who is in it, all asked anew each time. Promises: a broker that is stopped or killed and started again has what it
stored, and the same ports; ports are free ones and every file lies in the stage's folder.
Deliberately absent: ZooKeeper (each node is broker and controller, KRaft); producing, which tests do as they need it.
"""

import base64
import itertools
import json
import random
import socket
import struct
import uuid
import warnings
from collections import Counter, namedtuple

from packages import PACKAGES  # noqa: F401  (makes the next lines find what is installed there)

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from processes import kafka

# Not 127.0.0.1: a client that keeps dialling a port there that nobody listens on is given, sooner or later, this very
# port as its own, and connects to itself.
HOST = "127.0.0.4"
# A small heap, one collector, the quick compiler only: three of them beside three agents on two cores.
JAVA = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
# How long a question may take before it is asked again.
ANSWER_SECONDS = 2
# What is no error of a consumer's, but of a broker that is away, or of one that has just come.
PASSING = {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.UNKNOWN_TOPIC_OR_PART,
}
# What the bits of a batch's attributes say of its compression.
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")

# A node takes seconds to listen on its ports. These the system never gives to a client meanwhile.
with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as given:
    PORTS = range(10_000, int(given.read().split()[0]))

# Who may connect to the secured listeners, with which password; and the folder of certificates (clients/certificates.py).
Secured = namedtuple("Secured", "user password certificates")


class Kafka:
    """So many nodes. `brokers` are their plain addresses; with `secured` also `secured_brokers`, by SASL_SSL with SCRAM-SHA-512;
    with `gates`, one for each node, `gated_brokers`: the gates' own addresses, which lead to a listener for nobody else."""

    def __init__(self, stage, nodes=1, secured=None, gates=()):
        self.stage, self.secured = stage, secured
        self.folder = stage.dir / f"kafka-{uuid.uuid4().hex[:8]}"
        self.nodes = [Node(self, n, gate) for n, gate in itertools.zip_longest(range(1, nodes + 1), gates)]
        self.cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.brokers = [f"{HOST}:{node.plain}" for node in self.nodes]
        self.secured_brokers = [f"{HOST}:{node.secret}" for node in self.nodes]
        self.gated_brokers = [node.gate.address for node in self.nodes if node.gate]
        self.client = {"bootstrap.servers": ",".join(self.brokers), "log_level": 0, "error_cb": lambda error: None}
        self.readers = itertools.count()
        self.admin, self.askers, self.consumers = None, {}, []

    def start(self):
        """Starts all nodes that do not run, and returns once all are known to each other."""
        self.begin()
        self.wait()
        return self

    def begin(self):
        """Starts all nodes that do not run."""
        new = [node.format() for node in self.nodes if not node.folder.exists()]
        for process in new:
            if code := process.popen.wait(60):
                raise AssertionError(f"{process.name} ended with code {code}\n{process.words()}")
        for node in self.nodes:
            if not node.alive():
                node.start()

    def wait(self):
        """Returns once all nodes answer and no partition is without its replicas."""
        self.admin = self.admin or AdminClient(self.client)
        self.stage.wait_until(self.is_whole, "Kafka is whole", [node.process for node in self.nodes])

    def close(self):
        """Lets go of what asks; the nodes end with their stage."""
        for consumer in (*self.askers.values(), *self.consumers):
            consumer.close()

    def is_whole(self):
        try:
            known = self.admin.list_topics(timeout=ANSWER_SECONDS)
        except KafkaException:
            return False
        partitions = [partition for topic in known.topics.values() for partition in topic.partitions.values()]
        there = len(known.brokers) == len(self.nodes) and all(len(one.isrs) == len(one.replicas) for one in partitions)
        return there and all(self.ends(topic) is not None for topic in known.topics)

    def stop(self, *how):
        """Ends all nodes, by SIGTERM or another signal. The last of them cannot hand over, so SIGTERM is for one alone."""
        for node in self.nodes:
            node.process.kill(*how)

    def create(self, topic, partitions=1, **settings):
        """Makes a topic, as many copies as there are nodes; settings with `_` for `.`, as cleanup_policy="compact"."""
        config = {key.replace("_", "."): str(value) for key, value in settings.items()}
        wanted = NewTopic(topic, partitions, min(3, len(self.nodes)), config=config)
        self.admin.create_topics([wanted])[topic].result(30)
        self.stage.wait_until(lambda: self.ends(topic), f"{topic} is there", [node.process for node in self.nodes])

    def partitions(self, topic):
        return sorted(self.admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions)

    def ends(self, topic):
        """The offset behind the last message of each partition; None while nobody can say."""
        low_and_high = lambda asker, one: asker.get_watermark_offsets(TopicPartition(topic, one), ANSWER_SECONDS)
        return self.ask("nobody", lambda asker: {one: low_and_high(asker, one)[1] for one in self.partitions(topic)})

    def committed(self, group, topic):
        """What a group has committed: {partition: offset}, without those it has not; None while nobody can say."""
        asked = lambda: [TopicPartition(topic, partition) for partition in self.partitions(topic)]
        answer = self.ask(group, lambda asker: asker.committed(asked(), ANSWER_SECONDS))
        return answer and {one.partition: one.offset for one in answer if one.offset >= 0 and not one.error}

    def lag(self, group, topic):
        """How many messages a group has not committed; None while nobody can say."""
        committed, ends = self.committed(group, topic), self.ends(topic)
        return None if committed is None or ends is None else sum(end - committed.get(one, 0) for one, end in ends.items())

    def members(self, group):
        """Who is in a group, when it is at rest: {client id: [(topic, partition), …]}; None while it is not."""
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            try:
                # Out of fashion, but it does not crash: see `ask`.
                found = self.admin.list_groups(group, ANSWER_SECONDS)
            except KafkaException:
                return None
        if [one.state for one in found] != ["Stable"]:
            return None
        return {member.client_id: list(assigned(member.assignment)) for member in found[0].members}

    def ask(self, group, question):
        """What a consumer that has a group's name and does not join it answers; None while it cannot. librdkafka's admin client
        (2.16) crashes where a coordinator moves or is away while it is asked for offsets or members, so it only makes topics."""
        if group not in self.askers:
            self.askers[group] = Consumer(self.client | {"group.id": group})
        try:
            return question(self.askers[group])
        except KafkaException:
            # It would not look anew for a leader that has moved.
            self.askers.pop(group).close()
            return None

    def reader(self, topic):
        return Reader(self, topic)

    def compressions(self, topic):
        """How the stored batches of a topic are compressed: {name: batches}. Read off the first node's files."""
        found = Counter()
        for path in self.nodes[0].folder.glob(f"{topic}-[0-9]*/*.log"):
            data, at = path.read_bytes(), 0
            while at + 61 <= len(data):
                # A batch: its first offset, its length from here on, leader's epoch, format, checksum, attributes.
                _, length, _, _, _, attributes = struct.unpack_from(">qiibIh", data, at)
                found[COMPRESSIONS[attributes & 7]] += 1
                at += 12 + length
        return dict(found)


def quiet_port():
    """One of PORTS that nobody listens on."""
    while True:
        with socket.socket() as s:
            try:
                s.bind((HOST, port := random.choice(PORTS)))
                return port
            except OSError:
                pass


def assigned(assignment):
    """What Kafka's consumer protocol says a member has been given: (topic, partition) each."""
    topics, at = struct.unpack_from(">i", assignment, 2)[0], 6
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", assignment, at)
        topic = assignment[at + 2 : at + 2 + length].decode()
        (count,) = struct.unpack_from(">i", assignment, at + 2 + length)
        at += 2 + length + 4
        for partition in struct.unpack_from(f">{count}i", assignment, at):
            yield topic, partition
        at += 4 * count


class Node:
    """One broker and controller."""

    def __init__(self, cluster, number, gate=None):
        self.of, self.number, self.gate = cluster, number, gate
        self.plain, self.secret, self.control = quiet_port(), quiet_port(), quiet_port()
        self.folder = cluster.folder / str(number)
        self.config = cluster.folder / f"{number}.properties"
        self.process = None

    def alive(self):
        return self.process is not None and self.process.alive()

    def settings(self):
        nodes, secured = self.of.nodes, self.of.secured
        copies = min(3, len(nodes))
        listeners = {"PLAIN": self.plain, "CONTROL": self.control} | ({"SECRET": self.secret} if secured else {})
        listening = [f"{name}://{HOST}:{port}" for name, port in listeners.items()]
        told = [one for one in listening if not one.startswith("CONTROL")]
        if self.gate:
            listening.append(f"GATED://{HOST}:{self.gate.behind}")
            told.append(f"GATED://{self.gate.address}")
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": ",".join(f"{node.number}@{HOST}:{node.control}" for node in nodes),
            "controller.listener.names": "CONTROL",
            "listeners": ",".join(listening),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROL:PLAINTEXT,GATED:PLAINTEXT,SECRET:SASL_SSL",
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": self.folder,
            "auto.create.topics.enable": "false",
            "min.insync.replicas": max(1, copies - 1),
            "num.network.threads": 2,
            "num.io.threads": 2,
            "log.cleaner.enable": "false",
            # A group does not wait for more members than there are, and a test may want one to be gone soon.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "broker.session.timeout.ms": 1500,
            "broker.heartbeat.interval.ms": 300,
            "replica.lag.time.max.ms": 3000,
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
        }
        if secured:
            server, authority = secured.certificates / "server-with-key.pem", secured.certificates / "ca.pem"
            server.write_bytes(b"".join((secured.certificates / name).read_bytes() for name in ("server.key", "server.pem")))
            settings |= {
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.secret.scram-sha-512.sasl.jaas.config":
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "ssl.keystore.type": "PEM", "ssl.keystore.location": server,
                "ssl.truststore.type": "PEM", "ssl.truststore.location": authority,
            }
        return settings

    def java(self, program, *arguments):
        return ["java", *JAVA, "-cp", f"{kafka()}/*", program, *map(str, arguments)]

    def format(self):
        """Makes its folder; returns the process that does."""
        self.folder.mkdir(parents=True)
        self.config.write_text("".join(f"{key}={value}\n" for key, value in self.settings().items()))
        secured = self.of.secured
        users = ("--add-scram", f"SCRAM-SHA-512=[name={secured.user},password={json.dumps(secured.password)}]") if secured else ()
        command = self.java("kafka.tools.StorageTool", "format", f"--cluster-id={self.of.cluster}", "--config", self.config, *users)
        return self.of.stage.start(f"kafka-format-{self.number}", command)

    def start(self):
        self.process = self.of.stage.start(f"kafka-{self.number}", self.java("kafka.Kafka", self.config))


class Reader:
    """All messages of a topic, from the first on, each once."""

    def __init__(self, kafka, topic):
        config = {"group.id": f"reader-{next(kafka.readers)}", "enable.auto.commit": False, "auto.offset.reset": "error",
                  "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 500, "check.crcs": True}
        self.consumer = Consumer(kafka.client | config)
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in kafka.partitions(topic)])
        self.messages = []
        kafka.consumers.append(self.consumer)

    def read(self):
        """Reads on; returns all messages so far."""
        for message in self.consumer.consume(10_000, 0.05):
            if message.error() is None:
                self.messages.append(message)
            elif message.error().code() not in PASSING:
                raise AssertionError(f"reading: {message.error()}")
        return self.messages
