"""What fleets made of the same stream, compared: which records are anomalous, and which are one incident.

In:  a stream with its truth; what came out of a fleet; what each of its agents calls an incident in the end.
Out: `Figures`, and a table of several.
Promise: a record that came twice counts as it came first; what was only learned from counts in no share. A partition is of every record of the stream that counts, one in no
incident being a group of its own, so that incidents that are missing lower the agreement.
Deliberately absent: what is good enough; test_cluster.py says that.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations

from chaos import wire

BOOL, STRING = 2, 1  # of AnyValue


def adjusted_rand_index(pairs):
    """Agreement of two partitions, less what chance would give; 1.0 where both say nothing. `pairs`: of each record its two groups."""
    of_two = lambda count: count * (count - 1) / 2
    pairs = list(pairs)
    both, left, right = Counter(pairs), Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    together = sum(map(of_two, both.values()))
    rows, columns, everything = sum(map(of_two, left.values())), sum(map(of_two, right.values())), of_two(len(pairs))
    by_chance = rows * columns / everything if everything else 0
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def said(ours):
    """What an agent wrote on a record: {name: value}."""
    found = {}
    for _, _, _, attribute in wire.fields(ours):
        key, value = wire.first(attribute, wire.KEY).decode(), wire.first(attribute, wire.VALUE)
        for number, _, _, payload in wire.fields(value):
            found[key] = payload.decode() if number == STRING else bool(payload) if number == BOOL else payload
    return found


@dataclass
class Record:
    agent: str
    anomalous: bool
    incident: str
    verdict: str


@dataclass
class Figures:
    """Of one fleet and one stream."""

    name: str
    stream: object
    # By id, as each came first.
    records: dict = field(default_factory=dict)
    copies: int = 0
    # Of each agent: {id as written: id in the end}, where it knows it.
    names: dict = field(default_factory=dict)
    # Of each agent: {metric: value}.
    metrics: dict = field(default_factory=dict)

    def take(self, stored):
        """What came out of the fleet's agents."""
        for one in stored:
            for name, _, ours in wire.records(one.body):
                if name in self.records:
                    self.copies += 1
                    continue
                found = said(ours)
                self.records[name] = Record(one.agent, found.get("is_anomaly", False), found.get("incident_id", ""), found.get("harbinger.verdict", ""))
        return self

    @property
    def ids(self):
        """Every incident id that was written."""
        return {record.incident for record in self.records.values() if record.incident}

    @property
    def incidents(self):
        """How many incidents those are in the end, as the agent says that knows the fewest."""
        return max((len({names.get(one, one) for one in self.ids}) for names in self.names.values()), default=len(self.ids))

    @property
    def unknown(self):
        """Ids that were written and that some agent does not know."""
        return {one for one in self.ids if any(one not in names for names in self.names.values())}

    def group(self, name, agent):
        """What a record is part of, as this agent has it."""
        record = self.records.get(name)
        return self.names[agent].get(record.incident, record.incident) if record and record.incident else ("alone", name)

    def of_truth(self, without=None):
        """Agreement of incidents with faults over the true lines, as each agent has them; one fault may be left out."""
        truth = {name: fault for name, fault in self.stream.truth.items() if fault != without}
        return {agent: adjusted_rand_index((fault, self.group(name, agent)) for name, fault in truth.items()) for agent in self.names}

    def behind(self, other, without=None):
        """How much less than the other fleet's its incidents agree with the faults, as the worst of its agents has them."""
        return min(other.of_truth(without).values()) - min(self.of_truth(without).values())

    def behind_but_for_one(self, other):
        """The same, and which fault it is, where the one is left out that tells most against this fleet."""
        return min((self.behind(other, fault), fault) for fault in set(self.stream.truth.values()))

    def among(self):
        """The least agreement of two agents, over every record."""
        everything = lambda one, other: ((self.group(name, one), self.group(name, other)) for name in self.records)
        return min((adjusted_rand_index(everything(*two)) for two in combinations(sorted(self.names), 2)), default=1.0)

    def with_other(self, other):
        """Agreement with another fleet, over the true lines and over every record that is in an incident of either."""
        mine, theirs = min(self.names), min(other.names)
        pair = lambda name: (self.group(name, mine), other.group(name, theirs))
        grouped = {name for figures in (self, other) for name, record in figures.records.items() if record.incident}
        return adjusted_rand_index(map(pair, self.stream.truth)), adjusted_rand_index(map(pair, grouped))

    def judged(self):
        """Records behind the warm-up, by id."""
        return {name: record for name, record in self.records.items() if name in self.stream.judged}

    def share_of_anomalous(self):
        judged = self.judged().values()
        return sum(record.anomalous for record in judged) / max(1, len(judged))

    def anomalous_shapes(self):
        return {self.stream.shapes[name] for name, record in self.judged().items() if record.anomalous}

    def share_of_anomalous_shapes(self):
        return len(self.anomalous_shapes()) / len({self.stream.shapes[name] for name in self.stream.judged})

    def recall(self):
        truth = self.stream.truth
        return sum(name in self.records and self.records[name].anomalous for name in truth) / max(1, len(truth))

    def share_of_false(self):
        """Of the records that are no true lines, those marked."""
        others = [record for name, record in self.judged().items() if name not in self.stream.truth]
        return sum(record.anomalous for record in others) / max(1, len(others))

    def verdicts(self, word):
        return sum(record.verdict == word for record in self.judged().values())

    def counted(self, metric):
        """A metric over all agents; None where none of them has it."""
        values = [counts[metric] for counts in self.metrics.values() if counts.get(metric) is not None]
        return sum(values) if values else None

    def alike(self, other):
        """How many records both marked, only this one, only the other one."""
        marked = lambda figures: {name for name, record in figures.records.items() if record.anomalous}
        mine, theirs = marked(self), marked(other)
        return len(mine & theirs), len(mine - theirs), len(theirs - mine)


CLUSTER = {"first-sight races": "harbinger_cluster_first_sight_races_total", "records with an incident of an agent's own": "harbinger_cluster_alone_log_records_total",
           "aliases": "harbinger_cluster_aliases_total", "entries appended": "harbinger_cluster_entries_appended_total",
           "bytes of them": "harbinger_cluster_appended_bytes_total", "entries folded": "harbinger_cluster_entries_folded_total",
           "requests that waited for the cluster": "harbinger_cluster_wait_duration_seconds_count",
           "seconds they waited": "harbinger_cluster_wait_duration_seconds_sum"}


def table(fleets, beside=None):
    """Fleets in columns; `beside` is the one that the others are compared with."""
    rows = defaultdict(list)
    for one in fleets:
        other = one is not beside and beside
        truth = one.of_truth()
        rows["records, copies"].append(f"{len(one.records):,}, {one.copies}")
        rows["warming up, degraded"].append(f"{one.verdicts('warming_up'):,}, {one.verdicts('degraded'):,}")
        rows["anomalous records"].append(f"{one.share_of_anomalous():.2%}")
        rows["anomalous templates"].append(f"{one.share_of_anomalous_shapes():.2%} ({len(one.anomalous_shapes())})")
        rows["recall of true lines"].append(f"{one.recall():.2%}")
        rows["marked of the others"].append(f"{one.share_of_false():.3%}")
        rows["marked by both, here only, there only"].append("{}, {}, {}".format(*one.alike(other)) if other else "")
        rows["ids written, incidents, unknown somewhere"].append(f"{len(one.ids)}, {one.incidents}, {len(one.unknown)}")
        rows["ARI with the faults"].append(", ".join(f"{value:.4f}" for value in truth.values()))
        rows["ARI between agents"].append(f"{one.among():.4f}" if len(one.names) > 1 else "")
        rows["ARI with the other: true lines, all in incidents"].append("{:.4f}, {:.4f}".format(*one.with_other(other)) if other else "")
        rows["behind the other's: all faults, all but one"].append("{:.4f}, {:.4f} ({})".format(one.behind(other), *one.behind_but_for_one(other)) if other else "")
        for what, metric in CLUSTER.items():
            value = one.counted(metric)
            rows[what].append("" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.3f}")
    names = [one.name for one in fleets]
    widths = [max(len(cell) for cell in column) for column in zip(names, *rows.values())]
    first = max(map(len, rows))
    line = lambda title, cells: f"{title:<{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
    return "\n".join([line("", names), *(line(title, cells) for title, cells in rows.items() if any(cells))])
