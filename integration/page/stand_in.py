"""An agent's page server without the agent: as many incidents as wanted, as many changes a second.

What enters: how many incidents, what changes (by `change`, from a test). What leaves: the page, the API as JSON, the stream of
changes, on a port of its own. Promised: shapes as in proto/harbinger/v1/incidents.proto; feedback is kept and told. Absent:
detection, paging, security. It stands in only where a real agent cannot: a thousand incidents, twenty changes a second.

    python3 -m page.stand_in 1000 20        # in integration/: incidents, changes a second
"""

import json
import queue
import random
import sys
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from page import made

PAGE = Path(__file__).resolve().parents[2] / "src/edge/api/page/page.html"
BROKEN = object()
API = "/harbinger.v1.Incidents/"


class StandIn(ThreadingHTTPServer):
    daemon_threads = True
    # A browser that goes away in the middle of an answer is no news.
    handle_error = staticmethod(lambda request, address: None)

    def __init__(self, incidents, port=0, token="", end=None):
        super().__init__(("127.0.0.1", port), Answer)
        self.incidents = {one["id"]: one for one in made.incidents(incidents, end=end or datetime.now(timezone.utc))}
        self.token, self.opinions, self.watchers, self.changes = token, [], [], []
        self.sequence, self.chance = 1000, random.Random(7)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"

    def tell(self, happened, incident):
        self.sequence += 1
        self.incidents[incident["id"]] = incident
        change = {
            "sequence": self.sequence, "missed": False, "happened": happened, "time": incident["last_time"], "incident": incident,
        }
        self.changes.append(change)
        for watcher in list(self.watchers):
            watcher.put(change)

    def break_streams(self):
        """Ends every stream of changes."""
        while self.watchers:
            self.watchers.pop().put(BROKEN)

    def change(self):
        """An open incident grows, or, now and then, another one opens."""
        now = datetime.now(timezone.utc)
        if self.chance.random() < 0.1:
            self.tell("HAPPENED_OPENED", made.incident(self.chance, self.sequence, now, open_until=now))
            return
        one = dict(self.chance.choice([one for one in self.incidents.values() if one["state"].endswith("OPEN")]))
        one.update(records=one["records"] + 3, anomalous_records=one["anomalous_records"] + 2, last_time=made.stamp(now))
        self.tell("HAPPENED_UPDATED", one)

    # --- what is asked -----------------------------------------------------------------------------------------------

    def ListIncidents(self, asked):
        return {"incidents": sorted(self.incidents.values(), key=lambda one: one["first_time"], reverse=True), "next_page_token": ""}

    def GetIncident(self, asked):
        for one in self.incidents.values():
            if asked["id"] in (one["id"], *one["aliases"]):
                return {"incident": one, "merged_into": "" if one["id"] == asked["id"] else one["id"]}
        raise LookupError(f"no incident {asked['id']} is known (any more)")

    def ListTemplates(self, asked):
        found = {}
        for incident in list(self.incidents.values())[:40]:
            for one in incident["templates"]:
                found[one["template_key"]] = {
                    "key": one["template_key"], "text": one["text"], "tenant": "", "records": one["records"],
                    "first_seen": one["first_time"], "last_seen": incident["last_time"], "services": [one["service"]],
                    "anomalous": True, "suppressed": False,
                    **({"flagged_since": one["first_time"]} if one["records"] > 20 else {}),
                }
        words = asked.get("text_contains", "").lower()
        kept = [one for one in found.values() if words in one["text"].lower() and (one.get("flagged_since") or not asked.get("flagged_only"))]
        return {"templates": kept[:100], "next_page_token": ""}

    def GiveFeedback(self, asked):
        if not asked.get("author"):
            raise ValueError("author is empty; say who says so")
        if "incident_id" in asked:
            incident = self.GetIncident({"id": asked["incident_id"]})["incident"]
            about = [one for one in incident["templates"] if one["anomalous_records"]]
        else:
            about = [one for each in self.incidents.values() for one in each["templates"] if one["template_key"] == asked["template_key"]]
        for one in about:
            opinion = {key: asked[key] for key in ("normal", "mute_until", "real", "service", "comment", "author") if key in asked}
            self.opinions.append({
                "tenant": "", "template_key": one["template_key"], "text": one["text"],
                "given_at": made.stamp(datetime.now(timezone.utc)), **opinion,
            })
        closed = []
        if "incident_id" in asked and "real" not in asked:
            closed = [incident["id"]]
            self.tell("HAPPENED_CLOSED", {**incident, "state": "INCIDENT_STATE_CLOSED", "ending": "INCIDENT_ENDING_DISMISSED"})
        return {
            "summary": f"{len(about)} templates are not marked from now on", "template_keys": [one["template_key"] for one in about],
            "closed_incident_ids": closed, "kept": True,
        }

    def WithdrawFeedback(self, asked):
        found = next(one for one in self.opinions if one["template_key"] == asked["template_key"])
        self.opinions.remove(found)
        return {"withdrawn": found}

    def ListFeedback(self, asked):
        return {"opinions": self.opinions, "next_page_token": ""}

    def GetStatus(self, asked):
        still = sum(one["state"].endswith("OPEN") for one in self.incidents.values())
        return {
            "version": "0.1.0", "started_at": made.stamp(made.END), "mode": "MODE_MARK", "phase": "PHASE_READY", "detail": "judging by model generation 3",
            "model_healthy": True, "model_version": "minilm-5792e3df", "tenants": 1, "ready_tenants": 1, "open_incidents": still,
            "past_incidents": len(self.incidents) - still, "last_sequence": self.sequence,
        }


SETTINGS = {
    "links": [{"name": "Logs in Grafana", "url": "http://localhost:3000/explore?left=%7B%22q%22:%22{logql_json}%22%7D&from={start_ms}&to={end_ms}"}],
    "incident_attribute": "incident_id", "may_give_feedback": True,
}


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def is_refused(self):
        token = self.server.token
        if not token or self.headers.get("authorization") == f"Bearer {token}":
            return False
        self.answer(401, {"code": "unauthenticated", "message": "a token is needed"})
        return True

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/":
            self.answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.is_refused():
            pass
        elif path == "/settings":
            self.answer(200, SETTINGS)
        elif path == f"{API}WatchIncidents":
            self.watch()
        else:
            self.answer(404, {"code": "not_found", "message": f"nothing is at {path}"})

    def watch(self):
        changes, after = queue.Queue(), parse_qs(urlsplit(self.path).query).get("after_sequence")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.server.watchers.append(changes)
        seen = int(after[0]) if after else self.server.sequence
        change = {"sequence": seen, "missed": False, "happened": "HAPPENED_UNSPECIFIED"}
        for missed in [one for one in self.server.changes if one["sequence"] > seen]:
            changes.put(missed)
        try:
            while change is not BROKEN:
                self.wfile.write(f"id: {change['sequence']}\ndata: {json.dumps(change)}\n\n".encode() if change else b": \n\n")
                self.wfile.flush()
                try:
                    change = changes.get(timeout=15)
                except queue.Empty:
                    change = None
        finally:
            self.close_connection = True
            if changes in self.server.watchers:
                self.server.watchers.remove(changes)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.is_refused():
            return
        try:
            self.answer(200, getattr(self.server, self.path.removeprefix(API))(json.loads(body)))
        except LookupError as error:
            self.answer(404, {"code": "not_found", "message": str(error)})
        except ValueError as error:
            self.answer(400, {"code": "invalid_argument", "message": str(error)})


def main():
    server = StandIn(int(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    print(server.url, flush=True)
    while True:
        time.sleep(1 / float(sys.argv[2]) if float(sys.argv[2]) else 3600)
        if float(sys.argv[2]):
            server.change()


if __name__ == "__main__":
    main()
