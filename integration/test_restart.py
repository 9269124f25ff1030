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

from processes import detection, is_idle
from recorded import TRUTH, ReplayTest, attributes, fault, records_of, requests_in, seconds


class Restart(ReplayTest):
    deadline_seconds = 180

    def detection(self):
        return detection(self.health)

    def judged(self):
        judged = requests_in(self.dir / "judged.jsonl")
        return [(record, attributes(record)) for request in judged for record in records_of(request)]

    def test_kill_9_in_the_middle_of_an_incident(self):
        start, end = fault("postgres_connections_exhausted")
        agent = self.start_agent()
        self.assertEqual(self.detection(), (200, "warming_up"))
        sent = self.replay("warm-up.jsonl", 0, start)
        self.wait_until(lambda: self.detection()[1] == "ready", "detection is ready", [agent])
        # At a pace at which new sentences are embedded before the next ones come, as in life.
        sent += self.replay("before.jsonl", start, (start + end) / 2, "10x")
        agent.kill(signal.SIGKILL)
        at_death = self.judged()
        ids_before = {attrs["incident_id"] for _, attrs in at_death if "incident_id" in attrs}
        self.assertTrue(ids_before, "the fault opened no incident before the kill")

        agent = self.start_agent()
        self.assertEqual(self.detection(), (200, "ready"), "a second warm-up")
        # It judges what its snapshot knows at once; the fault's sentences are younger, and wait for the model.
        self.wait_until(lambda: is_idle(agent), "the model is loaded", [agent])
        sent += self.replay("after.jsonl", (start + end) / 2, end + 120, "40x")
        self.assertEqual(agent.kill(signal.SIGTERM), 0, "SIGTERM is a clean end\n" + agent.words())
        records = self.judged()
        self.assertEqual(len(records), sent)
        later = records[len(at_death):]
        self.assertFalse([a for _, a in later if a.get("harbinger.verdict") == "warming_up"])
        during_fault = {
            attrs["incident_id"]
            for record, attrs in later
            if attrs.get("is_anomaly") and "incident_id" in attrs and int(record["timeUnixNano"]) / 1e9 <= end
        }
        self.assertTrue(during_fault & ids_before, f"{during_fault} continue none of {ids_before}")

    def test_without_a_model_records_are_delivered(self):
        empty = self.dir / "no-model"
        empty.mkdir()
        agent = self.start_agent(environment={"HARBINGER_MODEL_DIR": str(empty)})
        self.assertEqual(self.detection(), (503, "degraded"), "detection is red beside a green liveness")
        count = self.replay("some.jsonl", 0, seconds(json.loads(TRUTH.read_text())["start"]) + 60)
        self.assertEqual(agent.kill(signal.SIGTERM), 0)
        records = self.judged()
        self.assertEqual(len(records), count)
        self.assertEqual({attrs.get("harbinger.verdict") for _, attrs in records}, {"degraded"})
        self.assertIn("make assets", agent.log.read_text(), "the log names the command that fetches the model")
