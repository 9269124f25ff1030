"""Agents of a fleet as processes on a stage: each a member of a consumer group, with a state, an API and a destination of its own.

In:  a Kafka, the topic of logs, and what `cluster:` should say; without that, agents that know nothing of each other.
Out: what came out of each, what each says of incidents, what each counts.
Promise: an agent that is started again finds its state, its name and its ports; what is asked of it is asked anew each time.
Deliberately absent: what is done to agents, and when; see run.py.
"""

import json
import signal
import subprocess
import threading
import urllib.request
from collections import namedtuple
from pathlib import Path

from api.client import Client, grpc
from chaos.agent import Sink
from chaos.sink import Entries
from processes import detection, free_port, harbinger

INCIDENTS = "harbinger.v1.Incidents"
SOON = {"initial_interval": "50ms", "max_interval": "300ms"}

# What an agent delivered in one request: `value()` is its bytes, as of a message of Kafka's.
Stored = namedtuple("Stored", "agent time body")
Stored.value = lambda self: self.body


class Fleet:
    """So many agents of one group, which learn from so many records first. `cluster`: the settings of `processors.harbinger.cluster` but for
    `agent_id`, or None."""

    def __init__(self, stage, kafka, topic, name, group, names, warm_up_records, cluster=None):
        self.name, self.warm_up_records = name, warm_up_records
        self.stage, self.kafka, self.topic, self.group, self.cluster = stage, kafka, topic, group, cluster
        self.agents = [Agent(self, name) for name in names]
        self.stored, self.reading = [], threading.Lock()

    def __iter__(self):
        return iter(self.agents)

    def running(self):
        return [agent for agent in self.agents if agent.alive()]

    def processes(self):
        return [agent.process for agent in self.running()]

    def start(self, agents=None):
        """Starts them, and returns once they, and nobody else, share the partitions, and see as many of each other."""
        for agent in agents or self.agents:
            agent.start()
        self.wait_for_group()
        return self

    def wait_for_group(self):
        names = sorted(agent.name for agent in self.running())

        def shared():
            members = self.kafka.members(self.group) or {}
            return sorted(members) == names and all(members.values())

        self.stage.wait_until(shared, f"{', '.join(names)} share the partitions", self.processes())
        if self.cluster is not None:
            self.wait_for_members()

    def wait_for_members(self):
        seen = lambda agent: agent.metric("harbinger_cluster_members") == len(self.running())
        self.stage.wait_until(lambda: all(map(seen, self.running())), "all agents see each other", self.processes())

    def read(self):
        """Reads on; returns all that came out so far, of every agent, in the order it was read."""
        with self.reading:
            for agent in self.agents:
                for head, body in agent.entries.new():
                    if "stored" in head:
                        self.stored.append(Stored(agent.name, head["time"], body))
            return self.stored

    def end(self):
        for agent in self.running():
            agent.end()


class Agent:
    def __init__(self, fleet, name):
        self.fleet, self.name = fleet, name
        stage = fleet.stage
        self.folder = stage.dir / f"{fleet.group}-{name}"
        self.folder.mkdir()
        self.health, self.metrics, self.api = free_port(), free_port(), free_port()
        self.sink = Sink(Within(stage, self.folder))
        self.entries = Entries(self.sink.journal)
        self.sink.journal.touch()
        self.config = self.folder / "agent.json"
        self.config.write_text(json.dumps(self.configuration(), indent=1))
        self.process = self.client = None
        self.training = {}

    def configuration(self):
        fleet = self.fleet
        # Everything but the model goes many times as fast as it happened; so the model has more time, and more of the processor.
        mind = {"state": {"directory": str(self.folder / "state")}, "embedding": {"deadline": "25s", "cpu_limit_percentage": 100},
                "detection": {"warm_up_records": fleet.warm_up_records}}
        if fleet.cluster is not None:
            mind["cluster"] = fleet.cluster | {"agent_id": self.name}
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.metrics}}}}
        return {
            "receivers": {"kafka": {
                "brokers": fleet.kafka.brokers, "group_id": fleet.group, "client_id": self.name, "initial_offset": "earliest",
                "session_timeout": "3s", "heartbeat_interval": "500ms", "autocommit": {"interval": "200ms"},
                "logs": {"topics": [fleet.topic], "encoding": "otlp_proto"}, "error_backoff": SOON}},
            "processors": {"harbinger": mind},
            "exporters": {"otlp_grpc": {"endpoint": f"http://{self.sink.grpc}", "retry_on_failure": SOON}},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{self.health}"}, "harbinger_api": {"endpoint": f"127.0.0.1:{self.api}"}},
            "service": {
                "extensions": ["health_check", "harbinger_api"],
                "pipelines": {"logs": {"receivers": ["kafka"], "processors": ["harbinger"], "exporters": ["otlp_grpc"]}},
                "telemetry": {"metrics": {"readers": [reader]}},
            },
        }

    def start(self):
        """Starts it, or starts it again on what it kept."""
        self.process = self.fleet.stage.start(self.name, [harbinger(), "run", "--config", str(self.config)])
        self.fleet.stage.wait_for_health(self.health, self.process)

    def is_ready(self):
        """Whether it has learned enough to judge."""
        return detection(self.health) == (200, "ready")

    def trains(self):
        """Whether its thread for training runs at this moment, as the kernel has it."""
        process = self.process.popen.pid
        if self.training.get("process") != process:
            names = {path.parent.name: path.read_text().strip() for path in Path(f"/proc/{process}/task").glob("*/comm")}
            self.training = {"process": process, "thread": next((thread for thread, name in names.items() if name == "fitting"), None)}
        try:
            stat = Path(f"/proc/{process}/task/{self.training['thread']}/stat").read_text()
        except OSError:
            return False
        return stat.rsplit(")", 1)[1].split()[0] != "S"

    def alive(self):
        return self.process is not None and self.process.alive()

    def kill(self):
        self.process.kill(signal.SIGKILL)

    def end(self):
        """Ends it in order."""
        if self.client:
            self.client.close()
            self.client = None
        if self.process.kill(signal.SIGTERM) != 0:
            raise AssertionError("SIGTERM is a clean end\n" + self.process.words())

    def metric(self, name, **labels):
        """The sum of a metric's series with these labels; None if there is no such metric, or nobody to ask."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [float(line.split()[-1]) for line in lines
                 if line.startswith((name + "{", name + " ")) and all(one in line for one in wanted)]
        return sum(found) if found else None

    def incident(self, name):
        """The incident that this id, or alias, leads to, by what it is called in the end; None if it is not known here."""
        if self.client is None:
            self.client = Client(f"127.0.0.1:{self.api}")
        try:
            found = self.client.call(INCIDENTS, "GetIncident", {"id": name})["incident"]
        except grpc.RpcError as refusal:
            if refusal.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise
        return found["merged_into"] or found["id"]

    def names(self, ids):
        """For each id what it is called in the end, where it is known here."""
        answers = {one: self.incident(one) for one in ids}
        return {one: answer for one, answer in answers.items() if answer is not None}


class Within:
    """A stage whose folder is another; what is started on it ends with that stage."""

    def __init__(self, stage, folder):
        self.dir, self.start = folder, stage.start


def takes_cluster(folder):
    """Whether the program under test knows `processors.harbinger.cluster`: None, or why not, in its own words."""
    path = folder / "takes-cluster.json"
    path.write_text(json.dumps({
        "receivers": {"otlp": {"protocols": {"grpc": {}}}}, "exporters": {"debug": {}},
        "processors": {"harbinger": {"state": {"enabled": False}, "cluster": {"brokers": ["127.0.0.1:9"]}}},
        "service": {"pipelines": {"logs": {"receivers": ["otlp"], "processors": ["harbinger"], "exporters": ["debug"]}}},
    }))
    done = subprocess.run([harbinger(), "validate", "--config", str(path)], capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else (done.stderr + done.stdout).strip()
