#!/usr/bin/env python3
"""Makes sets for `harbinger evaluate` out of healthy ones: chronic errors, new services, new releases, a dirty warm-up.

python3 sets.py [DATA_DIR] [--out DIR]      DATA_DIR: else $HARBINGER_DATA_DIR

Writes CSVs and sets.json (what each is, and what to evaluate it with) to DIR, by default target/evaluation/sets: they hold
lines that are not ours to publish, so they stay out of the project. The same data gives the same sets.

- chronic-X: one error template (wording.py) from the first minute to the end, label 1; benign chronic ones, label 0.
- new-service-X: from half of X on, the lines of another healthy set as one new service. All healthy: no labels; the
  column `fault` names the lines that are new, so that `evaluate` tells what is flagged of them.
- fifty-new-X: from 60 % of X on, fifty new benign templates within ten minutes (a tenth of what is left, if that is
  shorter), each said again until the end, with a new service.version. Labelled as new-service-X.
- dirty-warm-up-openstack: true lines of late faults said in the first fifth as well; what counts is unchanged.
- trainticket-60: the faults of trainticket-faults 60 s apart, one into the other, after healthy lines. No labels.
- outage-zookeeper: from 40 % of a healthy set on one error sentence every 3 s, for 30 minutes: one outage.
- fault-hadoop: hadoop-2k itself, labelled by us: from line 848 on the machine has lost its network.
"""

import argparse, csv, gzip, json, os, random, re, sys
from pathlib import Path

from wording import CHRONIC, DECOYS, RELEASE

ROOT = Path(__file__).resolve().parents[2]
# Some services of trainticket say a whole document in one line.
csv.field_size_limit(10**9)
COLUMNS = ["timestamp", "service", "severity", "message", "label", "fault"]
# Lines of a set that are taken: HDFS repeats itself; Hadoop is healthy until its network is lost.
HEALTHY_LINES = {"hdfs-20k-unlabelled": 10_000, "hadoop-2k": 840}
# Who joins whom.
JOINS = {"apache-2k": "zookeeper-2k", "openssh-2k": "spark-2k", "zookeeper-2k": "apache-2k", "spark-2k": "openssh-2k",
         "hdfs-20k-unlabelled": "hadoop-2k", "bgl-5k-normal": "hdfs-20k-unlabelled"}
LOST_NETWORK = re.compile(r"Address change detected|Failed to renew lease|ERROR IN CONTACTING RM|NoRouteToHost"
                          r"|DataStreamer Exception|ResponseProcessor exception|Error Recovery for block|Task cleanup failed"
                          r"|Error writing History Event|eventHandlingThread")


def fill(template, dice):
    """A sentence with what varies in it. What a masker may keep (host families, folders) is the same in all of its lines."""
    family = random.Random(template)
    stem, zone = family.choice(["node", "cn", "db", "edge", "io"]), family.choice("abc")
    folder = f"/{family.choice(['srv', 'data', 'scratch'])}/{family.choice(['projects', 'home', 'volumes'])}"
    kinds = {
        "host": lambda: f"{stem}{dice.randint(1, 64):02}.{zone}.example.net",
        "port": lambda: str(dice.choice([389, 2049, 5432, 8649, 9092, 27000])),
        "path": lambda: f"{folder}/{dice.randint(1, 40)}",
        "hex": lambda: f"0x{dice.getrandbits(40):010x}",
        "id": lambda: f"{dice.getrandbits(32):08x}-{dice.getrandbits(16):04x}-4{dice.getrandbits(12):03x}-a{dice.getrandbits(12):03x}-{dice.getrandbits(48):012x}",
        "user": lambda: str(dice.randint(100_000, 999_999)),
        "n": lambda: str(dice.randint(61, 9999)),
        "small": lambda: str(dice.randint(2, 60)),
        "big": lambda: str(dice.randint(10_000, 99_999_999)),
        "ms": lambda: f"{dice.uniform(0.2, 90):.1f}",
    }
    return re.sub(r"\{(\w+)\}", lambda found: kinds[found[1]](), template)


def name_of(base):
    return base.removesuffix("-2k").removesuffix("-20k-unlabelled").removesuffix("-5k-normal")


class Maker:
    def __init__(self, data, out):
        self.data, self.out, self.sets = data, out, []
        out.mkdir(parents=True, exist_ok=True)

    def read(self, base):
        path = self.data / f"{base}.csv.gz"
        if not path.exists():
            sys.exit(f"{path} is missing: name the data directory as argument or by HARBINGER_DATA_DIR")
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["time"] = float(row["timestamp"])
        rows.sort(key=lambda row: row["time"])
        return rows

    def healthy(self, base):
        rows = self.read(base)[: HEALTHY_LINES.get(base)]
        return [row | {"label": "0", "fault": ""} for row in rows]

    def write(self, name, kind, rows, more_columns=(), **options):
        rows = sorted(rows, key=lambda row: row["time"])
        path = self.out / f"{name}.csv"
        with open(path, "w", newline="") as file:
            table = csv.DictWriter(file, [*COLUMNS, *more_columns], extrasaction="ignore")
            table.writeheader()
            table.writerows(row | {"timestamp": f"{row['time']:.6f}"} for row in rows)
        positives = sum(row["label"] == "1" for row in rows)
        self.sets.append({"file": path.name, "kind": kind, "lines": len(rows), "positives": positives, **options})

    def chronic(self, base):
        dice, rows = random.Random(f"chronic {base}"), self.healthy(base)
        service, severity, share, template = CHRONIC[base]
        rest = 1 - share - sum(decoy[1] for decoy in DECOYS[base])
        total = len(rows) / rest
        first, last = rows[0]["time"], rows[-1]["time"]
        soon = min(60.0, (last - first) / 100)

        def steady(lines, **what):
            times = [first + dice.random() * soon] + [dice.uniform(first, last) for _ in range(lines - 1)]
            return [what | {"time": time, "message": fill(what["message"], dice)} for time in times]

        made = steady(round(total * share), service=service, severity=severity, message=template, label="1", fault="chronic")
        # A decoy is as severe as the set's usual line.
        usual = common(row["severity"] for row in rows)
        for service, share, template in DECOYS[base]:
            quiet = usual if usual.lower() in ("info", "notice") else ""
            made += steady(round(total * share), service=service, severity=quiet, message=template, label="0", fault="")
        self.write(f"chronic-{name_of(base)}", "chronic", rows + made)

    def new_service(self, base):
        host, guest = self.healthy(base), self.healthy(JOINS[base])
        half, last = host[len(host) // 2]["time"], host[-1]["time"]
        guest = guest[: len(host) // 2]
        begin, span = guest[0]["time"], guest[-1]["time"] - guest[0]["time"]
        for row in guest:
            row["time"] = half + (row["time"] - begin) / span * (last - half)
            row["service"], row["fault"] = name_of(JOINS[base]), "new service"
        self.write(f"new-service-{name_of(base)}", "new-service", [row | {"label": ""} for row in host + guest])

    def fifty_new(self, base):
        dice, rows = random.Random(f"fifty {base}"), self.healthy(base)
        begin, last = rows[len(rows) * 6 // 10]["time"], rows[-1]["time"]
        within = min(600.0, (last - begin) / 10)
        service = common(row["service"] for row in rows)
        usual = common(row["severity"] for row in rows)
        for row in rows:
            released = row["service"] == service and row["time"] > begin
            row["service.version"] = "1.5.0" if released else "1.4.0"
        for template in dice.sample(RELEASE, 50):
            first = begin + dice.random() * within
            # A few are said often, most now and then.
            again = min(40, int(2 * dice.paretovariate(0.9)))
            for time in [first] + [dice.uniform(first, last) for _ in range(again)]:
                rows.append({"time": time, "service": service, "severity": usual if usual.lower() in ("info", "notice") else "",
                             "message": fill(template, dice), "fault": "release", "service.version": "1.5.0"})
        self.write(f"fifty-new-{name_of(base)}", "fifty-new", [row | {"label": ""} for row in rows], ["service.version"])

    def dirty_warm_up(self):
        dice, rows = random.Random("dirty"), self.read("openstack-faults")
        counts_from = int(len(rows) * 0.2)
        begin, end = rows[0]["time"], rows[counts_from - 1]["time"]
        late = {}
        for row in rows[counts_from:]:
            if row["label"] == "1":
                late.setdefault(row["fault"], []).append(row)
        said_before = []
        for lines in list(late.values())[::2]:
            some = [row for row in lines if row["time"] < lines[0]["time"] + 120][:40]
            start = dice.uniform(begin, end - 120)
            said_before += [row | {"time": start + row["time"] - some[0]["time"], "fault": "warm-up"} for row in some]
        learned = counts_from + len(said_before)
        self.write("dirty-warm-up-openstack", "dirty-warm-up", rows + said_before, ["request_id"],
                   warmup_fraction=(learned + 0.5) / (len(rows) + len(said_before)))

    def trainticket_60(self):
        rows = [row | {"label": ""} for row in self.read("trainticket-faults")]
        of_faults = {}
        for row in rows:
            if row["fault"]:
                of_faults.setdefault(row["fault"], []).append(row)
        # Enough healthy lines for the warm-up, which is a fifth of all.
        healthy = [row for row in rows if not row["fault"]][: sum(map(len, of_faults.values())) // 4 + 200]
        begin, retimed = healthy[-1]["time"] + 60, list(healthy)
        for number, lines in enumerate(of_faults.values()):
            first = lines[0]["time"]
            retimed += [row | {"time": begin + 60 * number + row["time"] - first} for row in lines]
        self.write("trainticket-60", "trainticket-60", retimed, ["trace_id"])

    def outage(self, base):
        dice, rows = random.Random(f"outage {base}"), self.healthy(base)
        begin = rows[len(rows) * 4 // 10]["time"]
        service, _, _, template = CHRONIC[base]
        down = {"service": service, "severity": "ERROR", "label": "1", "fault": "outage"}
        errors = [down | {"time": begin + second, "message": fill(template, dice)} for second in range(0, 30 * 60, 3)]
        self.write(f"outage-{name_of(base)}", "outage", rows + errors)

    def fault_hadoop(self):
        rows = self.read("hadoop-2k")
        for row in rows:
            lost = LOST_NETWORK.search(row["message"]) and row["severity"] != "INFO"
            row["label"], row["fault"] = ("1", "network lost") if lost else ("0", "")
        self.write("fault-hadoop", "fault", rows)


def common(values):
    values = list(values)
    return max(sorted(set(values)), key=values.count)


def make(data, out):
    maker = Maker(data, out)
    for base in CHRONIC:
        maker.chronic(base)
    for base in JOINS:
        maker.new_service(base)
        maker.fifty_new(base)
    maker.dirty_warm_up()
    maker.trainticket_60()
    maker.outage("zookeeper-2k")
    maker.fault_hadoop()
    (out / "sets.json").write_text(json.dumps(maker.sets, indent=1) + "\n")
    return maker.sets


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", nargs="?", default=os.environ.get("HARBINGER_DATA_DIR", ROOT.parent / "shared/data"))
    arguments.add_argument("--out", type=Path, default=ROOT / "target/evaluation/sets")
    given = arguments.parse_args()
    for made in make(Path(given.data), given.out):
        print(f"{made['file']:<32} {made['lines']:>6} lines {made['positives']:>6} anomalous")


if __name__ == "__main__":
    main()
