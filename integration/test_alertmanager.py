"""Incidents in a real Alertmanager (built by alertmanager/build.sh), from logs to the on-call's receiver.

Guarantees, with the real model on the recording:

* an incident is an active alert with bounded labels, and the text of its leading edge in annotations only;
* Alertmanager notifies its receiver when the incident opens;
* kill -9 and a restart in the middle: the alert goes on under the same labels, though the configuration has changed;
* when the incident is over Alertmanager says `resolved`;
* each change is an event of its own among the records, and a document at the webhook;
* Alertmanager being away delays no log.

Standard library only.
"""

import json
import signal
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from processes import alertmanager, detection, free_port
from recorded import ReplayTest, events_of, fault, records_of, requests_in

ROUTE = """
route:
  receiver: on-call
  group_by: [incident_id]
  group_wait: 1s
  group_interval: 1s
receivers:
  - name: on-call
    webhook_configs:
      - url: http://127.0.0.1:{port}/on-call
        send_resolved: true
"""


class Received(ThreadingHTTPServer):
    """Keeps what is posted to it, by path."""

    def __init__(self):
        self.posted = {"/on-call": [], "/hook": []}
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.posted[self.path].append(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Alerts(ReplayTest):
    deadline_seconds = 240

    def setUp(self):
        super().setUp()
        self.received = Received()
        self.addCleanup(self.received.server_close)
        self.addCleanup(self.received.shutdown)
        self.alerts_port = free_port()

    def start_alertmanager(self):
        config = self.dir / "alertmanager.yml"
        config.write_text(ROUTE.format(port=self.received.server_port), encoding="utf-8")
        process = self.start("alertmanager", [
            alertmanager(), f"--config.file={config}", f"--storage.path={self.dir / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{self.alerts_port}", "--cluster.listen-address=",
        ])
        self.wait_for_port(self.alerts_port, process)
        return process

    def agent(self, *sets):
        return self.start_agent(
            f"processors.harbinger.notifiers.alertmanager.endpoint=http://127.0.0.1:{self.alerts_port}",
            # Long enough that no alert ends while the agent is restarted.
            "processors.harbinger.notifiers.alertmanager.resend_interval=20s",
            f"processors.harbinger.notifiers.webhook.endpoint=http://127.0.0.1:{self.received.server_port}/hook",
            *sets,
        )

    def is_ready(self):
        return detection(self.health)[1] == "ready"

    def active(self):
        """The labels of active alerts by the id of their incident."""
        url = f"http://127.0.0.1:{self.alerts_port}/api/v2/alerts?active=true"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return {alert["labels"]["incident_id"]: alert for alert in json.load(answer)}

    def notified(self, status, incident):
        """Whether Alertmanager has told its receiver that an incident is firing or resolved."""
        alerts = [alert for post in self.received.posted["/on-call"] for alert in post["alerts"]]
        return any(alert["status"] == status and alert["labels"]["incident_id"] == incident for alert in alerts)

    def out(self, of):
        return [record for request in requests_in(self.dir / "judged.jsonl") for record in of(request)]

    def test_an_incident_from_its_first_line_to_resolved(self):
        start, end = fault("postgres_connections_exhausted")
        manager = self.start_alertmanager()
        agent = self.agent()
        sent = self.replay("warm-up.jsonl", 0, start, "max")
        self.wait_until(self.is_ready, "detection is ready", [agent])
        sent += self.replay("fault.jsonl", start, (start + end) / 2, "10x")
        active = self.wait_until(self.active, "an alert is active", [agent, manager])
        incident, alert = next(iter(active.items()))
        self.assertLessEqual(set(alert["labels"]), {"alertname", "incident_id", "severity", "service"})
        self.assertEqual(alert["labels"]["alertname"], "HarbingerIncident")
        said = alert["annotations"]["leading_edge"].split(": ", 1)[1]
        self.assertTrue(said)
        self.assertNotIn(said, json.dumps(alert["labels"]), "text of logs in labels")
        self.wait_until(lambda: self.notified("firing", incident), "the receiver is notified", [agent, manager])

        agent.kill(signal.SIGKILL)
        agent = self.agent("processors.harbinger.notifiers.alertmanager.labels.team=another")
        updated = alert["updatedAt"]
        again = self.wait_until(
            lambda: [a for a in [self.active().get(incident)] if a and a["updatedAt"] != updated],
            "the alert is refreshed after the restart", [agent, manager],
        )
        self.assertEqual(again[0]["labels"], alert["labels"], "another label would be another alert")
        self.assertEqual(again[0]["startsAt"], alert["startsAt"])

        # Ten minutes more: past the silence after which incidents are over.
        sent += self.replay("after.jsonl", (start + end) / 2, end + 600, "max")
        self.wait_until(lambda: self.notified("resolved", incident), "the receiver hears of the end", [agent, manager])
        self.assertNotIn(incident, self.active())
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())

        self.assertEqual(len(self.out(records_of)), sent, "records, beside the events")
        events = [event["eventName"] for event in self.out(events_of) if incident in json.dumps(event["attributes"][:2])]
        self.assertEqual(events, ["harbinger.incident.opened", "harbinger.incident.closed"])
        told = [post["event"] for post in self.received.posted["/hook"] if post["incident_id"] == incident]
        self.assertEqual(told, events)

    def test_alertmanager_away_delays_no_log(self):
        start, end = fault("postgres_connections_exhausted")
        agent = self.agent()
        sent = self.replay("warm-up.jsonl", 0, start, "max")
        self.wait_until(self.is_ready, "detection is ready", [agent])
        sent += self.replay("fault.jsonl", start, end, "40x")
        self.assertEqual(len(self.out(records_of)), sent)
        # It comes, and hears how things stand.
        manager = self.start_alertmanager()
        self.wait_until(self.active, "an alert is active", [agent, manager])
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())
