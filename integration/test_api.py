"""Another language asks a running agent about the incidents of a real recording.

Guarantees, with the real model:

* a client without stubs finds the services by reflection, and health says that they serve;
* what is heard by watching is what is listed, and what is listed is what went out: as many records carry an incident's
  id, or one of its aliases, as the API says;
* after a restart the incidents that were over are known, and a watcher that resumes is told that it may have missed some;
* `harbinger incidents` prints the same.

Needs what integration/api/requirements.txt names, which `make integration` installs.
"""

import signal
import subprocess
from collections import Counter

from api.client import Client, grpc
from processes import harbinger
from recorded import ReplayTest, attributes, fault, records_of, requests_in

INCIDENTS = "harbinger.v1.Incidents"


class Api(ReplayTest):
    deadline_seconds = 240

    def agent(self):
        process = self.start_agent()
        client = Client(f"127.0.0.1:{self.api}")
        self.addCleanup(client.close)
        return process, client

    def command(self, *arguments):
        command = [harbinger(), "incidents", *arguments, "--api", f"http://127.0.0.1:{self.api}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def listed(self, client, **filters):
        """Every incident that matches, page by page."""
        found, token = [], ""
        while True:
            page = client.call(INCIDENTS, "ListIncidents", {**filters, "page_size": 2, "page_token": token})
            found += page["incidents"]
            token = page["next_page_token"]
            if not token:
                return found

    def test_a_client_without_stubs(self):
        start, end = fault("redis_cannot_persist")
        agent, client = self.agent()
        self.assertLessEqual({INCIDENTS, "grpc.health.v1.Health"}, set(client.services()))
        for service in ("", INCIDENTS):
            answer = client.call("grpc.health.v1.Health", "Check", {"service": service})
            self.assertEqual(answer["status"], "SERVING")
        self.assertEqual(client.call(INCIDENTS, "GetStatus")["phase"], "PHASE_WARMING_UP")

        changes = client.stream(INCIDENTS, "WatchIncidents", seconds=self.deadline_seconds)
        beginning = next(changes)
        self.assertFalse(beginning["missed"])
        self.replay("warm-up.jsonl", 0, start, "max")
        self.wait_until(
            lambda: client.call(INCIDENTS, "GetStatus")["phase"] == "PHASE_READY", "detection is ready", [agent]
        )
        # At a pace at which new sentences are embedded before the next ones come, as in life.
        self.replay("fault.jsonl", start, end + 120, "20x")

        heard = next(change for change in changes if change["happened"] == "HAPPENED_OPENED")
        self.assertGreater(int(heard["sequence"]), int(beginning["sequence"]))
        incident_id = heard["incident"]["id"]
        found = client.call(INCIDENTS, "GetIncident", {"id": incident_id.upper()})
        self.assertIn(incident_id, [found["incident"]["id"], *found["incident"]["aliases"]])

        incidents = self.listed(client)
        self.assertIn(incident_id, {incident["id"] for incident in incidents})
        went_out = Counter()
        for request in requests_in(self.dir / "judged.jsonl"):
            went_out.update(attributes(record).get("incident_id") for record in records_of(request))
        for incident in incidents:
            if incident["state"] == "INCIDENT_STATE_MERGED":
                continue
            ids = [incident["id"], *incident["aliases"]]
            self.assertEqual(int(incident["records"]), sum(went_out[one] for one in ids), incident)
            self.assertTrue(all(one in incident["logql"]["logql"] for one in ids))

        flagged = client.call(INCIDENTS, "ListTemplates", {"flagged_only": True})["templates"]
        self.assertTrue(flagged and all(template["flagged_since"] for template in flagged))
        self.assertIn(incident_id, self.command("list", "--limit", "1000"))
        self.assertIn(incident_id, self.command("export", "--format", "csv"))
        with self.assertRaises(grpc.RpcError) as refusal:
            client.call(INCIDENTS, "GetIncident", {"id": "19700101-000000-000000"})
        self.assertEqual(refusal.exception.code(), grpc.StatusCode.NOT_FOUND)

        # What comes long after closes what was open.
        self.replay("later.jsonl", end + 120, end + 600, "max")
        over = {incident["id"] for incident in self.listed(client, state="INCIDENT_STATE_CLOSED")}
        self.assertTrue(over)
        last = client.call(INCIDENTS, "GetStatus")["last_sequence"]
        self.assertEqual(agent.kill(signal.SIGTERM), 0, "SIGTERM is a clean end\n" + agent.words())

        agent, client = self.agent()
        again = {incident["id"] for incident in self.listed(client, state="INCIDENT_STATE_CLOSED")}
        self.assertEqual(again, over, "what was over is known after a restart")
        resumed = next(client.stream(INCIDENTS, "WatchIncidents", {"after_sequence": last}, seconds=60))
        self.assertTrue(resumed["missed"] and int(resumed["sequence"]) > int(last), resumed)
