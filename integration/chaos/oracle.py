"""The oracle: knows what was acknowledged, reads what the destination stored, and says what is missing, changed or doubled.

In:  the plan, the ledger, the destination's journal, the times at which the agent was killed.
Out: `Findings`.
Promise: every record that was acknowledged and that the destination did not say to reject is there, as it was sent to the
byte, Harbinger's attributes left out, in the order of its request; every copy beyond the first has a cause, or is told
as unexplained.
Deliberately absent: mercy. A record nobody sent, or one whose surroundings changed, is a changed record.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from chaos import wire
from chaos.sink import Entries

# An answer and the agent's note of it are this far apart at most; so are a store and the cut that took its answer.
NOTE_SECONDS = 5.0
# What a killed agent had sent may be on its way for so long; and a cut is noted shortly before it is done.
ON_ITS_WAY_SECONDS = 0.5

UNSAID = "the destination stored it and did not say so"
CUT = "the connection was cut before the answer was through"
KILLED = "the agent was killed before it had told, or noted, the answer"
UNANSWERED = "the sender had no answer and sent again"
TOLD_TO = "the sender was told to send again"
UNEXPLAINED = "unexplained"


@dataclass
class Copy:
    time: float
    said: bool
    ours: bytes


@dataclass
class Findings:
    arrived: int = 0
    missing: list = field(default_factory=list)
    changed: list = field(default_factory=list)
    # Records the destination says that it rejected, or of which the sender was told so.
    rejected: int = 0
    not_acknowledged: int = 0
    arrived_all_the_same: int = 0
    duplicates: Counter = field(default_factory=Counter)
    # Copies, by one and the same agent, that do not carry the same attributes of ours (CONFORMANCE.md 26).
    unlike_copies: int = 0
    anomalous: int = 0
    in_incidents: int = 0

    @property
    def sound(self):
        return not (self.missing or self.changed or self.duplicates[UNEXPLAINED])


class Oracle:
    """`journal`: the destination's, or None where somebody else hands over what came. `alone`: as in wire.request."""

    def __init__(self, plan, ledger, journal, alone=True):
        self.alone = alone
        self.plan, self.ledger, self.entries = plan, ledger, journal and Entries(journal)
        self.expected = {}
        self.copies = defaultdict(list)
        self.rejected = set()
        self.cuts = []
        self.changed = []
        self.stored_requests = self.anomalous = self.in_incidents = 0

    def _fingerprints(self, index):
        if index not in self.expected:
            sent = self.plan.request(index, self.alone)
            self.expected[index] = {name: fingerprint for name, fingerprint, _ in wire.records(sent)}
        return self.expected[index]

    def read(self):
        """Reads what is new in the journal."""
        for head, body in self.entries.new():
            if "cut" in head:
                self.cuts.append(head["time"])
            if "stored" not in head:
                continue
            self.stored_requests += 1
            # An answer that came in the last moment of its deadline was perhaps not heard.
            left = head["seconds_left"]
            said = head["said"] and (left is None or left > 0.2)
            self.take(body, head["time"], said, set(head["rejected"]))
        return self

    def take(self, body, time, said=True, rejected=frozenset()):
        """A request that came."""
        self.rejected |= rejected
        before = defaultdict(lambda: -1)
        for name, fingerprint, ours in wire.records(body):
            index, _, number = (name or "x-x").partition("-")
            if not index.isdigit() or int(index) >= len(self.plan.sizes):
                self.changed.append((name, "nobody sent such a record"))
                continue
            index, number = int(index), int(number)
            if self._fingerprints(index).get(name) != fingerprint:
                self.changed.append((name, "not the bytes that were sent"))
            if number <= before[index]:
                self.changed.append((name, f"came behind record {before[index]} of its request"))
            before[index] = number
            if name in rejected:
                continue
            if name not in self.copies:
                # AnyValue.bool_value true
                self.anomalous += b"is_anomaly\x12\x02\x10\x01" in ours
                self.in_incidents += b"incident_id" in ours
            self.copies[name].append(Copy(time, said, ours))

    def missing(self):
        """The acknowledged records that are not there and that nobody may be excused for."""
        absent = []
        for index, sent in enumerate(self.ledger.sent):
            if not sent.acknowledged:
                continue
            names = [f"{index}-{number}" for number in range(self.plan.sizes[index])]
            gone = [name for name in names if name not in self.copies and name not in self.rejected]
            # A rejection that the agent told of without the destination's list: it isolated a record itself.
            unlisted = sent.told_rejected - sum(name in self.rejected for name in names)
            absent += gone[max(0, unlisted) :]
        return absent

    def findings(self, kills):
        found = Findings(missing=self.missing(), changed=self.changed)
        found.anomalous, found.in_incidents = self.anomalous, self.in_incidents
        for index, sent in enumerate(self.ledger.sent):
            excuses = [attempt for attempt in sent.attempts if attempt.status != "OK"]
            explained = Counter()
            for number in range(self.plan.sizes[index]):
                name = f"{index}-{number}"
                copies = self.copies.get(name, [])
                found.arrived += bool(copies)
                if not sent.acknowledged:
                    found.not_acknowledged += 1
                    found.arrived_all_the_same += bool(copies)
                elif not copies:
                    found.rejected += name not in found.missing
                for before, after in zip(copies, copies[1:]):
                    key = (before.time, after.time)
                    if key not in explained:
                        explained[key] = self._cause(before, after, kills, excuses)
                    found.duplicates[explained[key]] += 1
                    one_agent = not any(before.time - ON_ITS_WAY_SECONDS <= kill <= after.time for kill in kills)
                    found.unlike_copies += one_agent and before.ours != after.ours
        return found

    def _cause(self, before, after, kills, attempts):
        """Why a record came once more after it had come."""

        def soon(times):
            begin, end = before.time - ON_ITS_WAY_SECONDS, min(after.time, before.time + NOTE_SECONDS)
            return any(begin <= time <= end for time in times)

        if not before.said:
            return UNSAID
        if soon(self.cuts):
            return CUT
        if soon(kills):
            return KILLED
        # Each attempt that did not end well may have left a copy behind, once.
        for attempt in attempts:
            if attempt.begun <= after.time:
                attempts.remove(attempt)
                return TOLD_TO if attempt.answered else UNANSWERED
        return UNEXPLAINED
