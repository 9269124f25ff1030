"""A real Collector's load_balancing exporter in front of three agents, on the very configurations in config-examples/.

Guarantees:

* collector-by-service.yaml: all records of a service come out of one agent, and every record comes out once;
* collector-by-trace.yaml, with a real look-up of a name that has three addresses: all records of a trace come out of one agent, those
  without are spread, every record comes out once; when an agent is gone, and its address with it, its traces go to the others
  and nothing is lost.

The way by Kafka is test_kafka.py's and test_cluster.py's. Needs HARBINGER_BIN (default target/release/harbinger), OTELCOL_BIN (default
target/integration/otelcol), and to be let mount (for a hosts file of the test's own).
"""

import json
import re
import signal
import subprocess
import unittest
import urllib.request
from collections import Counter, defaultdict

from deployed import enter, may_mount
from processes import EXAMPLES, ProcessTest, free_port, harbinger, otelcol
from recorded import attributes, fault, records_of, requests_in, slice_of

NAME = "harbinger-pods.harbinger.svc.cluster.local"
# Not 127.0.0.1, so that one port is three addresses, as behind a headless Service.
HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
SERVICE, TRACE = "service.name", "traceId"
# In a mount namespace of its own: $1 as /etc/hosts, then the command.
WITH_HOSTS = 'mount --make-rprivate / && mount --bind "$1" /etc/hosts && shift && exec "$@"'


def identified(request):
    """Of each record its service, its trace, and what tells it from all others."""
    for resource in request.get("resourceLogs", []):
        service = attributes(resource["resource"])[SERVICE]
        for record in records_of({"resourceLogs": [resource]}):
            yield service, record.get(TRACE, ""), (service, record["timeUnixNano"], record.get(TRACE, ""), record["body"]["stringValue"])


class Routing(ProcessTest):
    """Three agents, a Collector that shares out, and a stretch of the recording."""

    deadline_seconds = 150

    def setUp(self):
        super().setUp()
        self.port, self.collector_port, self.collector_health = free_port(), free_port(), free_port()
        self.collector_metrics = free_port()
        self.agents = [self.start_agent(n, host) for n, host in enumerate(HOSTS)]

    def start_agent(self, number, host):
        health = free_port()
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"{host}:{self.port}"}}}},
            "processors": {"harbinger": {"state": {"enabled": False}}},
            "exporters": {"file": {"path": str(self.out(number))}},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
            "service": {
                "extensions": ["health_check"], "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"logs": {"receivers": ["otlp"], "processors": ["harbinger"], "exporters": ["file"]}},
            },
        }
        path = self.dir / f"agent-{number}.json"
        path.write_text(json.dumps(config))
        agent = self.start(f"harbinger-{number}", [harbinger(), "run", "--config", str(path)])
        self.wait_for_health(health, agent)
        return agent

    def out(self, number):
        return self.dir / f"judged-{number}.jsonl"

    def start_collector(self, example, before=(), more=(), **environment):
        command = [*before, otelcol(), "--config", str(EXAMPLES / example)]
        for one in more:
            command += ["--config", f"yaml:{one}"]
        collector = self.start("collector", command, {
            "COLLECTOR_ENDPOINT": f"127.0.0.1:{self.collector_port}",
            "COLLECTOR_HEALTH_ENDPOINT": f"127.0.0.1:{self.collector_health}",
            "COLLECTOR_STATE_DIR": str(self.dir / "collector"),
            "COLLECTOR_METRICS_PORT": str(self.collector_metrics), **environment})
        self.wait_for_port(self.collector_port, collector)
        self.wait_for_health(self.collector_health, collector)
        return collector

    def backends(self):
        """How many agents the exporter knows."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.collector_metrics}/metrics", timeout=5) as answer:
            found = re.findall(r"^otelcol_loadbalancer_num_backends\S* (\S+)", answer.read().decode(), re.M)
        return float(found[0]) if found else 0

    def send(self, name, start, end):
        """Sends the recording between two times to the Collector; returns its records, each with how often it is there."""
        path = self.dir / name
        slice_of(path, start, end)
        command = [harbinger(), "replay", str(path), "--to", f"http://127.0.0.1:{self.collector_port}", "--speed", "max"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return Counter(one for request in requests_in(path) for _, _, one in identified(request))

    def came(self):
        """Of each agent what has come out of it."""
        return [[one for request in requests_in(self.out(n)) for one in identified(request)] for n in range(len(HOSTS))]

    def wait_for(self, sent, processes):
        """Until every record has come out; returns what came out of each agent."""
        def all_there():
            came = self.came()
            return came if Counter(one for agent in came for *_, one in agent) >= sent else None

        return self.wait_until(all_there, "every record has come out", processes)

    def where(self, came, part):
        """Which agents a service (0) or a trace (1) came out of."""
        found = defaultdict(set)
        for number, agent in enumerate(came):
            for record in agent:
                found[record[part]].add(number)
        return found

    def told(self, came):
        services = len({service for agent in came for service, *_ in agent})
        print(f"[{' + '.join(f'{len(agent):,}' for agent in came)} records of {services} services] ", end="", flush=True)

    def test_by_service(self):
        """A fixed list, as it stands in the example."""
        collector = self.start_collector("collector-by-service.yaml", **{f"HARBINGER_{n}": f"{host}:{self.port}" for n, host in enumerate(HOSTS)})
        start, end = fault("redis_cannot_persist")
        sent = self.send("sent.jsonl", start - 60, end)
        came = self.wait_for(sent, [collector, *self.agents])
        self.assertEqual(Counter(one for agent in came for *_, one in agent), sent, "each once")
        places = self.where(came, 0)
        self.assertEqual(len(places), 4)
        self.assertTrue(all(len(there) == 1 for there in places.values()), places)
        # Four services may all fall to one of three agents.
        self.told(came)

    def test_by_trace(self):
        """A name with three addresses, then with two: its agent is killed."""
        if not may_mount():
            self.skipTest("this machine lets nobody mount, so there can be no hosts file of the test's own")
        hosts = self.dir / "hosts"
        lines = lambda addresses: "".join(f"{address} {NAME}\n" for address in addresses) + "127.0.0.1 localhost\n"
        hosts.write_text(lines(HOSTS))
        collector = self.start_collector(
            "collector-by-trace.yaml", [*enter(), "sh", "-c", WITH_HOSTS, "sh", str(hosts)],
            # So that the test is shorter.
            ["exporters::load_balancing::protocol::otlp::retry_on_failure: {max_interval: 1s, max_elapsed_time: 3s}",
             "exporters::load_balancing::resolver::dns::interval: 1s"],
            HARBINGER_PORT=str(self.port))
        self.wait_until(lambda: self.backends() == len(HOSTS), "three agents are known", [collector])
        start, end = fault("redis_cannot_persist")
        sent = self.send("sent.jsonl", start - 60, end)
        came = self.wait_for(sent, [collector, *self.agents])
        self.assertEqual(Counter(one for agent in came for *_, one in agent), sent, "each once")
        places = self.where(came, 1)
        without = places.pop("")
        self.assertEqual(without, {0, 1, 2}, "records without a trace are spread")
        self.assertTrue(all(len(there) == 1 for there in places.values()))
        shares = Counter(number for (number,) in places.values())
        self.assertGreater(min(shares.values()), len(places) / len(HOSTS) * 0.5, "the load is even")
        self.told(came)

        gone, before = 1, Counter(one for agent in came for *_, one in agent)
        self.agents[gone].kill(signal.SIGKILL)
        more = self.send("more.jsonl", end, end + 60)
        hosts.write_text(lines(host for n, host in enumerate(HOSTS) if n != gone))
        left = [agent for n, agent in enumerate(self.agents) if n != gone]
        came = self.wait_for(sent + more, [collector, *left])
        copies = Counter(one for agent in came for *_, one in agent) - before - more
        print(f"[an agent gone: {more.total():,} records, 0 missing, {copies.total():,} came again] ", end="", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
