"""The agent dies without warning in mid-stream and comes back.

Guarantees, with the real model on the recording:

* kill -9: what was learned is there again, nothing is `warming_up` a second time;
* the incident that was open keeps its id, and no id names two incidents;
* every record that was acknowledged is at the sink, once;
* SIGTERM: the agent ends by itself with exit code 0;
* without a model: records are delivered, marked `harbinger.verdict=degraded`, and health shows detection red.

Standard library only.
"""

import json
import signal
import subprocess

from processes import EXAMPLES, ProcessTest, detection, free_port, harbinger
from recorded import TRUTH, attributes, fault, records_of, requests_in, seconds, slice_of


class Restart(ProcessTest):
    deadline_seconds = 180

    def agent(self, **environment):
        self.port, self.health = free_port(), free_port()
        command = [
            harbinger(), "run", "--config", str(EXAMPLES / "quickstart.yaml"),
            "--set", f"receivers.otlp.protocols.grpc.endpoint=localhost:{self.port}",
            "--set", "receivers.otlp.protocols.http.endpoint=localhost:0",
            "--set", f"extensions.health_check.endpoint=localhost:{self.health}",
            "--set", "extensions.harbinger_api.endpoint=127.0.0.1:0",
            "--set", f"exporters.file.path={self.dir / 'judged.jsonl'}",
            "--set", f"processors.harbinger.state.directory={self.dir / 'state'}",
            "--set", "service.telemetry.metrics.level=none",
        ]
        process = self.start("harbinger", command, environment)
        self.wait_for_health(self.health, process)
        return process

    def detection(self):
        return detection(self.health)

    def slice(self, name, start, end):
        """The recording's lines whose first record lies in [start, end), as a file; returns it and its record count."""
        path = self.dir / name
        return path, slice_of(path, start, end)

    def replay(self, path, speed="max"):
        command = [harbinger(), "replay", str(path), "--to", f"http://localhost:{self.port}", "--speed", speed]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def judged(self):
        judged = requests_in(self.dir / "judged.jsonl")
        return [(record, attributes(record)) for request in judged for record in records_of(request)]

    def test_kill_9_in_the_middle_of_an_incident(self):
        start, end = fault("postgres_connections_exhausted")
        warm_up, warm_up_count = self.slice("warm-up.jsonl", 0, start)
        before, before_count = self.slice("before.jsonl", start, (start + end) / 2)
        after, after_count = self.slice("after.jsonl", (start + end) / 2, end + 120)

        agent = self.agent()
        self.assertEqual(self.detection(), (200, "warming_up"))
        self.replay(warm_up)
        self.wait_until(lambda: self.detection()[1] == "ready", "detection is ready", [agent])
        # At a pace at which new sentences are embedded before the next ones come, as in life.
        self.replay(before, "10x")
        agent.kill(signal.SIGKILL)
        at_death = self.judged()
        ids_before = {attrs["incident_id"] for _, attrs in at_death if "incident_id" in attrs}
        self.assertTrue(ids_before, "the fault opened no incident before the kill")

        agent = self.agent()
        self.assertEqual(self.detection(), (200, "ready"), "a second warm-up")
        self.replay(after, "40x")
        self.assertEqual(agent.kill(signal.SIGTERM), 0, "SIGTERM is a clean end\n" + agent.words())
        records = self.judged()
        self.assertEqual(len(records), warm_up_count + before_count + after_count)
        later = records[len(at_death):]
        self.assertFalse([a for _, a in later if a.get("harbinger.verdict") == "warming_up"])
        during_fault = {
            attrs["incident_id"]
            for record, attrs in later
            if attrs.get("is_anomaly") and "incident_id" in attrs and int(record["timeUnixNano"]) / 1e9 <= end
        }
        self.assertTrue(during_fault & ids_before, f"{during_fault} continue none of {ids_before}")

    def test_without_a_model_records_are_delivered(self):
        some, count = self.slice("some.jsonl", 0, seconds(json.loads(TRUTH.read_text())["start"]) + 60)
        empty = self.dir / "no-model"
        empty.mkdir()
        agent = self.agent(HARBINGER_MODEL_DIR=str(empty))
        self.assertEqual(self.detection(), (503, "degraded"), "detection is red beside a green liveness")
        self.replay(some)
        self.assertEqual(agent.kill(signal.SIGTERM), 0)
        records = self.judged()
        self.assertEqual(len(records), count)
        self.assertEqual({attrs.get("harbinger.verdict") for _, attrs in records}, {"degraded"})
        self.assertIn("make assets", agent.log.read_text(), "the log names the command that fetches the model")
