"""Made-up incidents and reports in any number, in the shapes that the agent and `analyze --report` have.

What enters: how many, a seed. What leaves: dictionaries as their JSON. Promised: the same seed makes the same; texts include what
logs really hold: long, of several lines, right to left, markup, none at all. Absent: detection; the numbers mean nothing.
Used where a thousand incidents are wanted, which no agent has within a test's time.
"""

import random
from datetime import datetime, timedelta, timezone

END = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
SERVICES = ["nginx", "shop", "postgresql", "redis", "payments", "auth", "search-indexer", "mail", "nova/nova-compute", "neutron/l3-agent"]
TEXTS = [
    "*<n> connect() failed (<n>: Connection refused) while connecting to upstream, client: <ip>, server: shop",
    "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "could not extend file \"pg_tblspc/<n>/<n>\": No space left on device",
    "Write error saving DB on disk(rdbSaveRio): No space left on device",
    "deadlock detected",
    "Exception during message handling: Exception",
    "GET /cart/<id> answered <n> after <n> ms",
    "upstream timed out (<n>: Connection timed out) while reading response header from upstream",
    "worker <n> exited on signal 9",
    "<b>not bold</b> <img src=x onerror=alert(1)> & <script>alert(2)</script>",
    "فشل الاتصال بقاعدة البيانات <n> بعد <n> محاولات",
    "",
    "Traceback (most recent call last):\n  File \"/app/shop.py\", line <n>, in checkout\n    pay(order)\n"
    "  File \"/app/pay.py\", line <n>, in pay\n    raise Refused(code)\nshop.errors.Refused: card <hex> was refused",
    "payload " + "0123456789abcdef " * 480,
]
REASONS = ["speaks of failure, and was never said before", "speaks of failure", "rare: 2 of 6047 records", "12x its usual rate", ""]
SEVERITIES = [(9, "INFO", 6), (13, "WARN", 5), (17, "ERROR", 3), (21, "FATAL", 0.1), (0, "", 1)]
TIES = ["meaning", "shared_id", "time", "service", "companion"]


def stamp(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def incident(chance, number, first, open_until=None):
    """One incident that begins then; open ones have no end before `open_until`."""
    seconds = min(chance.lognormvariate(4.2, 1.6), 14_400)
    last = open_until or first + timedelta(seconds=seconds)
    seconds = max((last - first).total_seconds(), 0.001)
    span = 1
    while seconds / span > 31:
        span *= 2
    spans = int(seconds // span) + 1
    services = chance.sample(SERVICES, min(1 + int(chance.expovariate(0.8)), 8))
    weights = [weight for *_, weight in SEVERITIES]
    picked = [chance.choices(SEVERITIES, weights)[0] for _ in range(1 + int(chance.expovariate(0.25)))][:32]
    templates = []
    for index, (severity, _, _) in enumerate(picked):
        records = 1 + int(chance.paretovariate(0.8))
        begin = 0 if index == 0 else chance.randrange(spans)
        course = [0] * spans
        for _ in range(min(records, 400)):
            course[min(spans - 1, begin + int(chance.expovariate(1.2)))] += max(1, records // 400)
        service = services[0] if index == 0 else chance.choice(services)
        template = {
            "template_key": f"{chance.getrandbits(64):016x}",
            "text": TEXTS[(number * 5 + index) % len(TEXTS)],
            "records": sum(course),
            "anomalous_records": sum(course) if index == 0 or chance.random() < 0.75 else 0,
            "first_time": stamp(first + timedelta(seconds=begin * span)),
            "course": course,
            "service": service,
            "severity_number": severity,
        }
        if index and template["anomalous_records"]:
            to = chance.choice(templates)
            template["link"] = {
                "tie": chance.choice(TIES), "weight": round(chance.uniform(0.3, 9), 2),
                "template_key": to["template_key"], "service": to["service"],
            }
        templates.append(template)
    edge, worst = templates[0], max(templates, key=lambda one: one["severity_number"])
    names = {number: name for number, name, _ in SEVERITIES}

    def key_record(template):
        return {
            "time": template["first_time"], "service": template["service"], "template_key": template["template_key"],
            "text": template["text"].replace("<n>", "111"), "severity_number": template["severity_number"],
            "severity": names[template["severity_number"]], "reason": chance.choice(REASONS),
        }

    course = [sum(counts) for counts in zip(*(one["course"] for one in templates))]
    state = "INCIDENT_STATE_OPEN" if open_until else "INCIDENT_STATE_CLOSED"
    counts = [
        {"service": service, "records": sum(one["records"] for one in templates if one["service"] == service),
         "first_time": min(one["first_time"] for one in templates if one["service"] == service)}
        for service in services if any(one["service"] == service for one in templates)
    ]
    name = f"{first:%Y%m%d-%H%M%S}-{number:06x}"
    query = f'{{service_name=~"{"|".join(services)}"}} | incident_id="{name}"'
    joined = [one["link"]["tie"] for one in templates if "link" in one]
    return {
        "id": name, "tenant": "", "aliases": [f"{name[:-1]}z"] if number % 17 == 3 else [], "parent_incident_id": "",
        "state": state, "ending": "INCIDENT_ENDING_UNSPECIFIED" if open_until else "INCIDENT_ENDING_SILENCE", "merged_into": "",
        "announced": True, "leading_edge": key_record(edge), "worst": key_record(worst), "records": sum(course),
        "anomalous_records": sum(one["anomalous_records"] for one in templates),
        "first_time": stamp(first), "last_time": stamp(last), "services": sorted(services), "records_of_other_services": 0,
        "templates": sorted(templates, key=lambda one: -one["records"]), "records_of_other_templates": 0,
        "ties": [{"tie": tie, "episodes": joined.count(tie)} for tie in TIES if tie in joined],
        "logql": {"logql": query, "start": stamp(first - timedelta(minutes=1)), "end": stamp(last + timedelta(minutes=1))},
        "logql_before": {"logql": query.split(" |")[0], "start": stamp(first - timedelta(minutes=10)), "end": stamp(last)},
        "service_counts": sorted(counts, key=lambda one: one["first_time"]),
        "course": {"start": stamp(first), "span_seconds": span, "records": course},
    }


def incidents(number, seed=1, hours=20.0, end=END, still_open=3):
    """That many, newest first, within so many hours before the end."""
    chance = random.Random(seed)
    starts = sorted(end - timedelta(hours=chance.random() * hours) for _ in range(number))
    made = [
        incident(chance, index, first, end if index >= number - still_open else None) for index, first in enumerate(starts)
    ]
    return made[::-1]


def report(number, seed=1, hours=400.0):
    """The data of a report with that many incidents."""
    chance = random.Random(seed)
    found = incidents(number, seed, hours)
    spans, span = 512, 4096
    start = END - timedelta(seconds=spans * span)
    usual = [chance.random() < 0.93 for _ in range(spans)]
    highest = [round(min(chance.betavariate(2, 7) + (chance.random() < 0.15) * 0.6, 0.999), 4) if there else None for there in usual]
    templates = []
    for _ in range(min(400 + number, 5000)):
        of = chance.choice(found) if chance.random() < 0.4 else None
        cluster = random.Random(of["id"] if of else chance.randrange(12))
        templates.append({
            "x": cluster.gauss(0, 4) + chance.gauss(0, 0.6), "y": cluster.gauss(0, 3) + chance.gauss(0, 0.6),
            "key": f"{chance.getrandbits(64):016x}", "text": chance.choice(TEXTS), "service": chance.choice(SERVICES),
            "records": int(chance.paretovariate(0.7)), "anomalous_records": 3 if of else 0, "incident_id": of["id"] if of else "",
        })
    return {
        "kind": "report", "version": 1, "made_at": stamp(END), "made_by": "harbinger 0.1.0", "inputs": ["made-up.csv.gz"],
        "redacted": False, "rows": 42169, "anomalous_rows": 1234, "rows_not_judged": 500,
        "first_time": stamp(start), "last_time": stamp(END), "incidents": found, "incidents_left_out": 0,
        "scores": {
            "threshold": 0.5, "start": stamp(start), "span_seconds": span, "records": [80 if one else 0 for one in usual],
            "anomalous": [int(bool(one and one > 0.5)) * 4 for one in highest],
            "median": [one and round(one * 0.12, 4) for one in highest], "p99": [one and round(one * 0.7, 4) for one in highest],
            "max": highest,
            "peaks": [
                {"time": stamp(start + timedelta(seconds=(index + 0.5) * span)), "score": one, "service": "nginx", "text": TEXTS[0],
                 "template_key": "0" * 16, "incident_id": found[index % len(found)]["id"]}
                for index, one in enumerate(highest) if one and one > 0.7
            ],
        },
        "reconstruction_error": {
            "of": "records", "edges": [round(index * 0.02, 3) for index in range(41)],
            "usual": [int(9000 * 2.7 ** -((index - 5) ** 2 / 12)) for index in range(40)],
            "anomalous": [int(300 * 2.7 ** -((index - 22) ** 2 / 60)) for index in range(40)], "threshold": 0.31,
        },
        "map": {"explained": [0.31, 0.12], "templates": templates},
    }
