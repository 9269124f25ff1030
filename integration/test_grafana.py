"""Dashboards, alerts and rules of config-examples, asked of a real Loki, its ruler, and a real Prometheus.

Guarantees, on the recording replayed through the agent with config-examples/loki.yaml:

* every LogQL query of every panel, alert and rule, with Grafana's variables replaced, is answered by Loki with what the file
  exporter beside it has seen: the same incidents, counts, texts and lines; a query without an expectation fails;
* every PromQL query is answered by Prometheus with what the agent's own page of metrics says; metrics that are not there are named;
* the ruler has the rules and fires HarbingerIncident for the incidents that the agent's API says are open, text in annotations only;
* Prometheus' alerts fire when they should and not when they should not (`promtool test rules`);
* dashboards and provisioning files have no key or value that Grafana's own types do not know; links lead somewhere.

Standard library only; node with what `make integration-grafana` installs, for the types and for reading YAML.
"""

import json
import math
import re
import shutil
import signal
import subprocess
import time
import unittest
import urllib.request
from collections import Counter, defaultdict

from grafana.questions import (
    GRAFANA, LOKI_RULES, NODE, PROMETHEUS_RULES, asked, dashboards, everything, metrics_in, variables_of, yaml,
)
from loki_server import Loki
from processes import ROOT, free_port, harbinger, promtool
from prometheus_server import Prometheus
from recorded import EVENTS, RECORDING, TRUTH, requests_in
from test_loki import WITH_FILE, LokiTest, as_stored

OVERVIEW, INCIDENT, AGENT = "harbinger-overview", "harbinger-incident", "harbinger-agent"

# The time range that is looked at, and the step, as Grafana would choose them: all of the replay lies in it.
RANGE, STEP = 7200, 30
# The range of rates: as long as the replay takes at least.
RATE = 600

OPENED, UPDATED, MERGED, CLOSED = (f"harbinger.incident.{what}" for what in ("opened", "updated", "merged", "closed"))
PREFIX = "harbinger_incident_"
EDGE, WORST = PREFIX + "leading_edge_", PREFIX + "worst_"
# What the tables of incidents show of each.
SHOWN = ("incident_id", EDGE + "time", EDGE + "service", EDGE + "text", WORST + "severity_text")
# How an incident stands.
HELD = ("incident_id", *(PREFIX + name for name in (
    "status", "closed_by", "merged_into", "parent_id", "aliases", "first_time", "last_time", "services", "anomalous_records",
)))


class Seen:
    """What the file exporter has written until now, as Loki should have it; `at` is when it is looked at, seconds since 1970."""

    def __init__(self, path, at=None):
        stored = [one for request in requests_in(path) for one in as_stored(request)]
        # Loki keeps one of several lines that are the same.
        self.doubles = len(stored) - len(set(stored))
        in_time = sorted(set(stored), key=lambda one: one[1][1])
        lines = [(when, service, body, dict(metadata)) for _, (service, when, body, metadata) in in_time]
        self.events = [line for line in lines if line[3].get("scope_name") == EVENTS]
        self.lines = [line for line in lines if line[3].get("scope_name") != EVENTS]
        latest = max((line[0] for line in lines), default=0) / 1e9
        # A step of the grid, so that the last one holds the last line.
        self.at = at or math.ceil((max(time.time(), latest) + 1) / STEP) * STEP

    def told(self, *what, seconds=RANGE, of=None):
        """The metadata of events with these names (all, without any) in the last seconds."""
        after = (self.at - seconds) * 1e9
        return [
            event for when, _, _, event in self.events
            if when > after and (not what or event["harbinger_event"] in what) and of in (None, event["incident_id"])
        ]

    def ids(self, *what, seconds=RANGE):
        return {event["incident_id"] for event in self.told(*what, seconds=seconds)}

    def open(self):
        return self.ids(OPENED, seconds=3600) - self.ids(CLOSED, MERGED, seconds=3600)

    def of(self, incident):
        """The lines that carry the id."""
        return [line for line in self.lines if line[3].get("incident_id") == incident]

    def size(self, incident, *what, seconds=RANGE):
        """The most anomalous records that these events tell of."""
        return max(int(event[PREFIX + "anomalous_records"]) for event in self.told(*what, seconds=seconds, of=incident))


def shown(event, labels):
    return tuple(event.get(label, "") for label in labels)


def rows(found, labels):
    """A table of an instant query: {values of the labels: number}. Other labels than these are an error."""
    for one in found:
        odd = one.labels.keys() - set(labels)
        if odd:
            raise AssertionError(f"labels that were not asked for: {odd}")
    return {shown(one.labels, labels): one.points[-1][1] for one in found}


def summed(found, label):
    """The sum of each series of a range query, by a label."""
    return {one.labels.get(label, ""): sum(number for _, number in one.points) for one in found}


# What Loki should answer: functions of the test and of `ask`, which asks the one question. Those of the incident's page are asked
# for several incidents.


def open_number(test, ask):
    test.assertEqual([one.points[0][1] for one in ask()], [len(test.seen.open())])


def range_number(test, ask):
    test.assertEqual([one.points[0][1] for one in ask()], [len(test.seen.ids(OPENED) - test.seen.ids(MERGED))])


def incidents_table(ids, *what, seconds):
    def check(test, ask):
        opened = {event["incident_id"]: event for event in test.seen.told(OPENED)}
        expected = {shown(opened[one], SHOWN): test.seen.size(one, *what, seconds=seconds) for one in ids(test.seen)}
        test.assertEqual(rows(ask(), SHOWN), expected)
        test.assertTrue(expected)

    return check


def said(test, ask):
    test.assertEqual([line.body for line in ask()], [body for _, _, body, _ in test.seen.events])


def opened_over_time(test, ask):
    expected = Counter(event[EDGE + "service"] for event in test.seen.told(OPENED))
    test.assertEqual(summed(ask(), EDGE + "service"), expected)


def key_record(prefix):
    """Of the event that tells of the most records."""
    labels = [prefix + name for name in ("time", "service", "severity_text", "text")]

    def check(test, ask, incident):
        events = test.seen.told(of=incident)
        most = max(int(event[PREFIX + "records"]) for event in events)
        expected = {shown(event, labels) for event in events if int(event[PREFIX + "records"]) == most}
        found = rows(ask(incident), labels)
        test.assertEqual(len(found), 1)
        test.assertLessEqual(found.keys(), expected)
        test.assertEqual(set(found.values()), {most})

    return check


def how_it_stands(test, ask, incident):
    over = test.seen.told(CLOSED, MERGED, of=incident)
    event = (over or test.seen.told(OPENED, UPDATED, of=incident))[-1]
    test.assertEqual(rows(ask(incident), HELD), {shown(event, HELD): int(event[PREFIX + "records"])})


def story(test, ask, incident):
    expected = [body for _, _, body, event in test.seen.events if event["incident_id"] == incident]
    test.assertEqual([line.body for line in ask(incident)], expected)


def its_lines(test, ask, incident):
    found = ask(incident)
    test.assertEqual({line.metadata["incident_id"] for line in found}, {incident})
    test.assertEqual([line.time for line in found], [line[0] for line in test.seen.of(incident)], "not in the order of time")
    test.assertEqual(sorted(line[:2] for line in found), sorted(line[:3:2] for line in test.seen.of(incident)))
    # The event of its end counts the same lines; those of other incidents that became part of it have their own id.
    for event in test.seen.told(CLOSED, of=incident):
        if PREFIX + "aliases" not in event and not test.seen.doubles:
            test.assertEqual(len(found), int(event[PREFIX + "records"]))


def its_lines_over_time(test, ask, incident):
    expected = Counter(service for _, service, _, _ in test.seen.of(incident))
    test.assertEqual(summed(ask(incident), "service_name"), expected)


def its_templates(test, ask, incident):
    labels = ("service_name", "harbinger_template")
    expected = Counter(
        (service, metadata["harbinger_template"])
        for _, service, _, metadata in test.seen.of(incident) if metadata["is_anomaly"] == "true"
    )
    test.assertEqual(rows(ask(incident), labels), dict(expected.most_common(32)))
    test.assertTrue(expected)


def alert_on_incidents(test, ask):
    labels = ("incident_id", EDGE + "service", WORST + "severity_text")
    expected = {shown(event, labels): 1 for event in test.seen.told(OPENED, seconds=3600) if event["incident_id"] in test.seen.open()}
    test.assertEqual(rows(ask(), labels), expected)


def alert_on_many(test, ask):
    opened = len(test.seen.told(OPENED, seconds=1800))
    test.assertEqual([one.points[0][1] for one in ask()], [opened] if opened > 5 else [])


def alert_on_silence(test, ask):
    test.assertEqual(ask(), [], "there were judged lines")
    test.assertEqual([one.points[0][1] for one in ask(at=test.seen.at - RANGE)], [1], "there was not one line then")


LOKI = {
    (OVERVIEW, "Open incidents", "A"): open_number,
    (OVERVIEW, "Incidents in this time range", "A"): range_number,
    (OVERVIEW, "The largest incidents of this time range", "A"): incidents_table(
        lambda seen: seen.ids(OPENED) - seen.ids(MERGED), seconds=RANGE
    ),
    (OVERVIEW, "Open now", "A"): incidents_table(Seen.open, OPENED, UPDATED, seconds=3600),
    (OVERVIEW, "What Harbinger said", "A"): said,
    (OVERVIEW, "Incidents opened, by the service they began in", "A"): opened_over_time,
    (INCIDENT, "Leading edge", "A"): key_record(EDGE),
    (INCIDENT, "Worst record", "A"): key_record(WORST),
    (INCIDENT, "How it stands", "A"): how_it_stands,
    (INCIDENT, "Its story", "A"): story,
    (INCIDENT, "Its lines over time, by service", "A"): its_lines_over_time,
    (INCIDENT, "What it says, how often", "A"): its_templates,
    (INCIDENT, "Its lines, across services", "A"): its_lines,
    ("grafana", "HarbingerIncident"): alert_on_incidents,
    ("loki", "HarbingerIncident"): alert_on_incidents,
    ("loki", "HarbingerAnomalySurge"): alert_on_many,
    ("loki", "HarbingerSilent"): alert_on_silence,
}


class Page:
    """The agent's own page of metrics, with the labels that Prometheus gives its series."""

    def __init__(self, text, target):
        self.names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
        self.series = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name, _, labels = name.rstrip("}").partition("{")
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
                labels.update(instance=target, job="harbinger")
                if labels.get("le", "+Inf") != "+Inf":
                    # Bounds of buckets are floats to Prometheus: "1" is "1.0".
                    labels["le"] = str(float(labels["le"]))
                self.names.add(name)
                self.series[name, frozenset(labels.items())] = float(value)

    def sums(self, name, by=(), **match):
        """{values of the labels `by`: the sum}, of series whose labels are among those given."""
        sums = defaultdict(float)
        for (of, labels), value in self.series.items():
            labels = dict(labels)
            if of == name and all(labels.get(label) in values for label, values in match.items()):
                sums[shown(labels, by)] += value
        return dict(sums)

    def total(self, name):
        return sum(self.sums(name).values())


def latest(found, by=()):
    """{values of the labels: the number at the end}. Other labels than these are an error."""
    return rows([one for one in found if not math.isnan(one.points[-1][1])], by)


# What Prometheus should answer: functions of the test, which has the agent's page, and the series.


def is_now(name, *by):
    """A gauge: exactly what the page says."""
    return lambda test, found: test.assertEqual(latest(found, by), test.page.sums(name, by))


def a_minute(name, *by, seconds=60, over=RATE):
    """The rate of a counter. It is taken over all of the replay, so it tells of every count."""
    def check(test, found):
        expected = test.page.sums(name, by)
        test.assertEqual(latest(found, by).keys(), expected.keys())
        for labels, rate in latest(found, by).items():
            test.assert_counted(rate * over / seconds, expected[labels])

    return check


def gained(name):
    """The increase of a counter within the time range."""
    return lambda test, found: test.assert_counted(latest(found)[()], test.page.total(name))


def of_verdicts(*verdicts, by=("verdict",)):
    """Rates of what was judged so. A series begins with its first count, which no rate can see."""
    def check(test, found):
        total = test.page.sums("harbinger_judged_log_records_total", by, verdict=verdicts)
        test.assertLessEqual(latest(found, by).keys(), total.keys())
        for labels, rate in latest(found, by).items():
            test.assertLessEqual(rate * RATE / 60, total[labels] * 1.05)

    return check


def share(*verdicts, by=()):
    """Between nothing and all, for such as have been judged so."""
    def check(test, found):
        of = test.page.sums("harbinger_judged_log_records_total", by, verdict=verdicts)
        test.assertLessEqual(latest(found, by).keys(), of.keys() | {()})
        test.assertTrue(all(0 <= value <= 1 for value in latest(found, by).values()), found)

    return check


def queue_share(test, found):
    by = ("instance", "exporter")
    size, capacity = (test.page.sums(f"harbinger_exporter_queue_{what}", by) for what in ("size", "capacity"))
    test.assertEqual(latest(found, by), {labels: size[labels] / of for labels, of in capacity.items() if of > 0})


def seconds_waited(test, found):
    (value,) = latest(found).values()
    test.assertTrue(0 < value < 60, value)


def memory(test, found):
    test.assertTrue(all(value > 0 for value in latest(found, ("instance",)).values()))


def nothing(test, found):
    test.assertEqual(found, [])


def new_incidents(test, found):
    (value,) = latest(found, ("job", "instance")).values()
    test.assertTrue(0 < value <= test.page.total("harbinger_announced_incidents_total") * 1.05, value)


def zero(*by):
    return lambda test, found: test.assertEqual(set(latest(found, by).values()), {0})


def by_chance(*by):
    """Depends on how fast the machine is; that it fires, and does not, `promtool test rules` says."""
    return lambda test, found: latest(found, by)


def refs(*checks):
    """The checks of a panel's queries, in their order."""
    return dict(zip("ABCDEFGHIJ", checks))


INSTANCE, EXPORTER = ("instance",), ("instance", "exporter")
UNJUDGED = ("bypassed", "warming_up", "degraded")
PANELS = {
    (OVERVIEW, "Anomalous"): refs(share("anomalous")),
    (OVERVIEW, "Unjudged"): refs(share(*UNJUDGED)),
    (OVERVIEW, "Detection"): refs(is_now("harbinger_detection_ready")),
    (OVERVIEW, "Anomalous records per minute, by service"): refs(of_verdicts("anomalous", by=("service_name",))),
    (OVERVIEW, "Anomalous share, by service"): refs(share("anomalous", by=("service_name",))),
    (OVERVIEW, "Unjudged records per minute, by reason"): refs(of_verdicts(*UNJUDGED)),
    (OVERVIEW, "Unjudged share, by service"): refs(share(*UNJUDGED, by=("service_name",))),
    (AGENT, "Detection"): refs(is_now("harbinger_detection_ready", *INSTANCE)),
    (AGENT, "Records until the first training"): refs(is_now("harbinger_warm_up_remaining_log_records", *INSTANCE)),
    (AGENT, "Memory limiter"): refs(is_now("harbinger_memory_limited", *INSTANCE)),
    (AGENT, "Dead letters"): refs(is_now("harbinger_exporter_dead_letters", *EXPORTER)),
    (AGENT, "Records per minute"): refs(
        a_minute("harbinger_receiver_accepted_log_records_total", *INSTANCE),
        a_minute("harbinger_exporter_sent_log_records_total", *EXPORTER),
    ),
    (AGENT, "Queue, share of its capacity"): refs(queue_share),
    (AGENT, "Records refused or not sent, per minute"): refs(
        a_minute("harbinger_receiver_refused_log_records_total", "receiver", "transport"),
        a_minute("harbinger_exporter_send_failed_log_records_total", "exporter"),
        a_minute("harbinger_exporter_enqueue_failed_log_records_total", "exporter"),
        a_minute("harbinger_exporter_rejected_log_records_total", "exporter"),
        a_minute("harbinger_exporter_dead_letter_log_records_total", "exporter"),
    ),
    (AGENT, "Records in queues"): refs(is_now("harbinger_exporter_queue_log_records", *EXPORTER)),
    (AGENT, "Requests in flight"): refs(zero(*INSTANCE)),
    (AGENT, "How long callers wait"): refs(seconds_waited, seconds_waited),
    (AGENT, "How long requests wait for the model"): refs(seconds_waited),
    (AGENT, "Records per minute, by verdict"): refs(of_verdicts("normal", "anomalous", *UNJUDGED)),
    (AGENT, "Embedding, templates per minute"): refs(*(
        a_minute(f"harbinger_embedding_{what}_total", *INSTANCE)
        for what in ("templates", "late_templates", "queue_overflow_templates", "failed_templates", "hangs")
    )),
    (AGENT, "In this time range"): refs(*(
        gained(f"harbinger_{what}_total") for what in (
            "drift_alarms", "fits", "over_budget_episodes", "released_episodes", "evicted_templates", "repeated_requests",
            "clock_jumps_back",
        )
    )),
    (AGENT, "Incidents"): refs(
        is_now("harbinger_open_incidents", *INSTANCE),
        a_minute("harbinger_announced_incidents_total", *INSTANCE, seconds=3600, over=3600),
    ),
    (AGENT, "Told, in this time range"): refs(*(
        gained(f"harbinger_{what}_total") for what in (
            "incident_events_sent", "incident_events_failed", "incident_events_dropped", "notifications_sent",
            "notifications_failed", "notifications_dropped",
        )
    )),
    (AGENT, "State on disk, in this time range"): refs(*(
        gained(f"harbinger_{what}_total") for what in ("snapshots", "snapshot_failed_writes", "journal_failed_writes")
    )),
    (AGENT, "Resident memory"): refs(memory),
    (AGENT, "Templates known"): refs(is_now("harbinger_templates", *INSTANCE)),
    (AGENT, "Strangers, per minute"): refs(*(
        a_minute(f"harbinger_receiver_{what}_total", *INSTANCE)
        for what in ("unauthenticated_requests", "malformed_requests", "refused_connections")
    )),
}
PROMETHEUS = {
    **{(*panel, ref): check for panel, checks in PANELS.items() for ref, check in checks.items()},
    ("prometheus", "HarbingerNewIncident"): new_incidents,
    ("prometheus", "HarbingerAnomalySurge"): by_chance("job", "service_name"),
    ("prometheus", "HarbingerUnjudged"): by_chance("job", "instance"),
    **{("prometheus", f"Harbinger{name}"): nothing for name in (
        "Down", "Absent", "Silent", "DetectionNotReady", "StillLearning", "QueueFilling", "QueueAlmostFull", "DeadLetters",
        "SendFails", "Rejected", "Refuses", "MemoryLimited", "TellsNobody",
    )},
    ("grafana", "HarbingerAnomalySurge"): by_chance("service_name"),
    ("grafana", "HarbingerSilent"): gained("harbinger_receiver_accepted_log_records_total"),
    ("grafana", "HarbingerDetectionNotReady"): zero(*INSTANCE),
    ("grafana", "HarbingerQueueFilling"): queue_share,
    ("grafana", "HarbingerDeadLetters"): zero(*EXPORTER),
    ("grafana", "HarbingerRefuses"): zero(*INSTANCE),
}
# They change from one look to the next.
RESTLESS = {"harbinger_requests_in_flight", "harbinger_process_memory_rss_bytes"}


class Answers(LokiTest):
    """One replay, and all there is to ask about it."""

    deadline_seconds = 600

    def setUp(self):
        super().setUp()
        self.questions = everything()
        self.used = set().union(*(metrics_in(question.text) for question in self.questions if question.to == "prometheus"))
        # The limit of series is Loki's own, not that of other tests.
        self.loki = Loki("-querier.max-query-series=500", rules=LOKI_RULES).start(self)
        self.judged, self.api = self.dir / "judged.jsonl", free_port()
        sets = [f"extensions.harbinger_api.endpoint=127.0.0.1:{self.api}"]
        self.harbinger = self.agent(self.loki.otlp, WITH_FILE.format(path=self.judged), sets=sets)
        self.target = f"localhost:{self.metrics}"
        self.prometheus = Prometheus(self.target, PROMETHEUS_RULES).start(self)
        # What is counted before the first scrape no rate can see.
        programs = [self.harbinger, self.loki.process, self.prometheus.process]
        self.wait_until(lambda: self.by_prometheus(time.time(), {"up"}), "Prometheus has scraped the agent", programs)

    def test_every_query_is_answered_with_what_was_sent(self):
        command = [harbinger(), "replay", str(RECORDING), "--to", f"http://localhost:{self.grpc}", "--speed", "60x", "--now"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.deadline_seconds, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        programs = [self.harbinger, self.loki.process, self.prometheus.process]
        self.wait_until(self.stands_still, "the file, Loki, Prometheus and the agent say the same", programs)
        self.assertTrue(self.seen.open() and self.seen.ids(CLOSED), "there should be an incident that is open and one that is over")

        known = {question.where for question in self.questions}
        self.assertEqual(known, LOKI.keys() | PROMETHEUS.keys(), "each query has an expectation, and each expectation a query")
        self.assertEqual(len(known), len(self.questions), "two panels have the same title")
        missing = self.used - self.page.names
        with self.subTest("metrics"):
            self.assertFalse(missing, f"the agent has no {', '.join(sorted(missing))}: queries with these were not asked")
        for question in self.questions:
            with self.subTest(question.where, query=question.text):
                if question.to == "loki":
                    self.ask_loki(question)
                elif not metrics_in(question.text) & missing:
                    self.ask_prometheus(question)
        self.check_variables()
        self.check_rules_of_prometheus()
        self.check_ruler()
        print(f"[{len(known)} queries, {len(self.seen.ids(OPENED))} incidents, {len(self.seen.open())} open] ", end="", flush=True)

    def stands_still(self):
        """Whether all has arrived everywhere; then the agent is stopped in the middle of a word, so that it stays so."""
        seen = Seen(self.judged)
        records = json.loads(TRUTH.read_text(encoding="utf-8"))["records"]
        if len(seen.lines) + seen.doubles < records or seen.open() != self.open_by_api():
            return False
        page = self.read_page()
        scraped = time.time()
        used = {series: value for series, value in page.series.items() if series[0] in self.used - RESTLESS}
        if used != self.by_prometheus(scraped, {name for name, _ in used}):
            return False
        self.harbinger.popen.send_signal(signal.SIGSTOP)
        again = Seen(self.judged, seen.at)
        stored = self.loki.count('{service_name=~".+"}', seen.at - RANGE, seen.at)
        if again.events == seen.events and stored == len(seen.lines) + len(seen.events):
            self.seen, self.page, self.scraped = seen, page, scraped
            return True
        self.harbinger.popen.send_signal(signal.SIGCONT)
        return False

    def open_by_api(self):
        """The announced incidents that the running agent says are open."""
        command = [harbinger(), "incidents", "list", "--state", "open", "--json", "--api", f"http://127.0.0.1:{self.api}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return {json.loads(line)["id"] for line in done.stdout.splitlines()}

    def read_page(self):
        with urllib.request.urlopen(f"http://{self.target}/metrics", timeout=10) as answer:
            return Page(answer.read().decode(), self.target)

    def by_prometheus(self, at, names):
        found = self.prometheus.instant('{job="harbinger"}', at)
        series = [(one.labels.pop("__name__"), frozenset(one.labels.items()), one.points[0][1]) for one in found]
        return {(name, labels): value for name, labels, value in series if name in names}

    def assert_counted(self, counted, expected):
        """What Prometheus makes of a counter, which it draws out to the ends of a range, and never for more than a sample."""
        self.assertLessEqual(abs(counted - expected), 0.05 * expected + 0.5)

    def ask_loki(self, question):
        at = self.seen.at
        log_query = question.where[0] in (OVERVIEW, INCIDENT) and not question.instant and "count_over_time" not in question.text

        def ask(incident="-", at=at):
            auto = f"{RANGE if question.instant else STEP}s"
            text = asked(question.text, __range=f"{RANGE}s", __auto=auto, incident_id=incident, service=".+")
            if question.instant:
                return self.loki.instant(text, at)
            if log_query:
                return self.loki.query(text, at - RANGE, at)
            return self.loki.query_range(text, at - RANGE, at, STEP)

        check = LOKI[question.where]
        if question.where[0] != INCIDENT:
            return check(self, ask)
        self.assertEqual(ask("-"), [], "no incident is chosen")
        for incident in sorted(self.seen.ids(OPENED)):
            with self.subTest(incident):
                check(self, ask, incident)
        return None

    def ask_prometheus(self, question):
        text = asked(question.text, __range=f"{RANGE}s", __rate_interval=f"{RATE}s", instance=".+")
        if question.instant:
            found = self.prometheus.instant(text, self.scraped)
        else:
            found = self.prometheus.query_range(text, self.scraped - RATE, self.scraped, STEP)
            # Only what there is at the end; Prometheus tells times in milliseconds.
            found = [one for one in found if one.points[-1][0] > self.scraped - 1]
        PROMETHEUS[question.where](self, found)

    def check_variables(self):
        """The lists that are offered to choose from."""
        with self.subTest("variables"):
            service = variables_of(dashboards()[INCIDENT])["service"]["query"]
            at = self.seen.at
            values = self.loki.get(f"label/{service['label']}/values", start=(at - RANGE) * 10**9, end=at * 10**9)
            self.assertEqual(set(values), {line[1] for line in self.seen.lines + self.seen.events})
            instance = variables_of(dashboards()[AGENT])["instance"]["query"]["query"]
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", instance).groups()
            self.assertEqual(self.prometheus.label_values(label, series), [self.target])

    def check_rules_of_prometheus(self):
        """It has them all, and can answer each."""
        with self.subTest("Prometheus' rules"):
            health = {rule["name"]: rule["health"] + rule.get("lastError", "") for rule in self.prometheus.rules_loaded()}
            expected = [name for place, name, *_ in PROMETHEUS if place == "prometheus"]
            self.assertEqual(health, dict.fromkeys(expected, "ok"))

    def check_ruler(self):
        """Loki's ruler fires for each open incident, with the text of its first record in the annotations and nowhere else."""
        with self.subTest("ruler"):
            self.assertEqual(
                {(rule["name"], rule["query"].count("harbinger")) for group in self.ruler("rules")["groups"] for rule in group["rules"]},
                {(question.where[1], question.text.count("harbinger")) for question in self.questions if question.where[0] == "loki"},
            )

            def firing():
                alerts = [alert for alert in self.ruler("alerts")["alerts"] if alert["labels"]["alertname"] == "HarbingerIncident"]
                alerts = {alert["labels"]["incident_id"]: alert for alert in alerts if alert["state"] == "firing"}
                return alerts.keys() == self.seen.open() and alerts

            opened = {event["incident_id"]: event for event in self.seen.told(OPENED)}
            for incident, alert in self.wait_until(firing, "the ruler fires", [self.loki.process]).items():
                event, labels = opened[incident], alert["labels"]
                self.assertEqual(set(labels), {"alertname", "severity", "incident_id", EDGE + "service", WORST + "severity_text"})
                self.assertEqual(labels["severity"], "critical" if event[WORST + "severity_text"] == "FATAL" else "warning")
                words = " ".join(alert["annotations"]["description"].split())
                self.assertIn(" ".join(event[EDGE + "text"].split()), words)
                self.assertIn(incident, alert["annotations"]["dashboard"])
                self.assertEqual(alert["annotations"]["summary"], f"{event[WORST + 'severity_text']} in {event[EDGE + 'service']}")

    def ruler(self, what):
        with urllib.request.urlopen(f"{self.loki.url}/prometheus/api/v1/{what}", timeout=10) as answer:
            return json.load(answer)["data"]


class Files(unittest.TestCase):
    """What can be said of the files as they lie there."""

    def test_no_key_or_value_that_grafana_does_not_know(self):
        """By `tsc`, against the types of @grafana/schema; mistakes.ts holds what it has to refuse."""
        check = NODE / "check"
        shutil.rmtree(check, ignore_errors=True)
        check.mkdir()
        for name in ("model.ts", "mistakes.ts", "tsconfig.json"):
            shutil.copy(ROOT / "integration/grafana" / name, check)
        for command in (["read.mjs", "check", str(check), str(GRAFANA)], ["node_modules/typescript/bin/tsc", "-p", "check"]):
            done = subprocess.run(["node", *command], cwd=NODE, capture_output=True, text=True, timeout=300, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        written = len(list(check.glob("*.json.Dashboard.ts"))), len(list(check.glob("*.yaml.*.ts")))
        self.assertEqual(written, (len(dashboards()), 3))

    def test_links_lead_to_dashboards_and_variables_that_are_there(self):
        """Those between panels, of the derived field, and of the alerts."""
        paths = (*GRAFANA.rglob("*.json"), *GRAFANA.rglob("*.yaml"), *LOKI_RULES.glob("*.yaml"))
        sources = [path.read_text(encoding="utf-8") for path in paths]
        found = {link for source in sources for link in re.findall(r'/d/[^\s"\']+', source)}
        self.assertGreater(len(found), 4)
        for link in found:
            with self.subTest(link):
                uid, _, query = link.removeprefix("/d/").partition("?")
                self.assertIn(uid, dashboards())
                self.assertLessEqual(set(re.findall(r"var-(\w+)=", query)), variables_of(dashboards()[uid]).keys())

    def test_alerts_belong_to_panels_and_data_sources_that_are_there(self):
        alerting, sources = yaml(GRAFANA / "provisioning/alerting/harbinger.yaml", GRAFANA / "provisioning/datasources/harbinger.yaml")
        panels = {(uid, panel["id"]) for uid, dashboard in dashboards().items() for panel in dashboard["panels"]}
        uids = {source["uid"] for source in sources["datasources"]}
        rules = [rule for group in alerting["groups"] for rule in group["rules"]]
        self.assertEqual(len({rule["uid"] for rule in rules}), len(rules))
        for rule in rules:
            self.assertIn((rule["dashboardUid"], rule["panelId"]), panels, rule["title"])
            self.assertLessEqual({step["datasourceUid"] for step in rule["data"]} - {"__expr__"}, uids)
            self.assertIn(rule["condition"], [step["refId"] for step in rule["data"]])
        for dashboard in dashboards().values():
            variables = variables_of(dashboard).items()
            chosen = {name: one["current"]["value"] for name, one in variables if one["type"] == "datasource"}
            self.assertEqual(chosen, {"loki": "harbinger-loki", "prometheus": "harbinger-prometheus"})

    def test_the_alerts_of_prometheus_fire_when_they_should_and_not_else(self):
        """promtool, on harbinger-alerts.test.yaml; no alert is without a case in which it fires."""
        tests = PROMETHEUS_RULES.with_name("harbinger-alerts.test.yaml")
        checks = (["check", "config", "prometheus.yaml"], ["check", "rules", PROMETHEUS_RULES.name], ["test", "rules", tests.name])
        for command in checks:
            done = subprocess.run([promtool(), *command], cwd=tests.parent, capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rules, cases = yaml(PROMETHEUS_RULES, tests)
        alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
        fired = {
            alert for test in cases["tests"]
            for sample in (s for case in test.get("promql_expr_test", []) for s in case["exp_samples"])
            for alert in re.findall(r'alertname="(\w+)"', sample["labels"])
        } | {case["alertname"] for test in cases["tests"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
        self.assertEqual(fired, alerts)

    def test_what_is_alerted_on_has_words_that_say_what_to_do(self):
        (alerting,) = yaml(GRAFANA / "provisioning/alerting/harbinger.yaml")
        files = yaml(*LOKI_RULES.glob("*.yaml"), PROMETHEUS_RULES)
        groups = [*alerting["groups"], *(group for rules in files for group in rules["groups"])]
        for rule in (rule for group in groups for rule in group["rules"]):
            self.assertGreater(len(rule["annotations"]["description"]), 40, rule)
            self.assertTrue(rule["annotations"]["summary"], rule)
            self.assertIn(rule["labels"]["severity"].split()[0], {"critical", "warning", "info", "{{"}, rule)


if __name__ == "__main__":
    unittest.main()
