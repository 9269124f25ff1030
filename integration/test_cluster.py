"""Three agents that share incidents and memory through a real Kafka, beside one agent on the same stream.

Guarantees, for our recording and, where it is there, for openstack-faults-overlap60 (see fleet/streams.py):

* in peace every record comes out once; whichever agent is asked, the records of one incident are the same; incidents match the
  faults as those of one agent do, and as much is marked;
* whatever happens to agents and Kafka, what Kafka has acknowledged comes out, a copy has a cause, and in the end the incidents are the
  same whichever agent is asked;
* while Kafka is away for the cluster alone, agents go on with incidents of their own, and tell their aliases afterwards.

What one service says at one instant stays in one request (`whole` in fleet/streams.py), as a sender's batch has it: torn over three agents, a
stack trace is three agents' bursts, and 84 % of overlap60's true lines are marked instead of 88 %.

Not held to: that one agent's own figures repeat to the record. Of the same stream it marks some ten records of two thousand only once. In
overlap60 one line, whose score is about that of the bar, is marked in some runs and not in others, and decides whether all 125 records of a
fault join the incident before it: an agreement with the faults of .78 or .85, of one agent as of three. In eight runs three were .017 behind at
most, but no single run can be held to the target of .02 with all faults; without the fault that tells most against three it is.

Needs HARBINGER_BIN (default target/release/harbinger, built with the feature kafka), Kafka (KAFKA_DIR, default
target/integration/kafka), Java 17 and target/integration/python. `python3 -m fleet` prints all figures.
"""

import time
import unittest

from fleet import run as runs
from fleet.agents import takes_cluster
from fleet.figures import table
from fleet.streams import OVERLAP60, overlap60, recording
from kafka_server import Kafka
from processes import Stage

# Times as fast as it happened. The stream waits where an agent would not be so far behind in life.
SPEED = 25
# How much less the incidents of three may agree with the faults than those of one; and with all of overlap60's, see above.
ARI_TOLERANCE, OVERLAP60_ARI_TOLERANCE = 0.02, 0.07
# How much three may mark less, or more, than one: as a share of the true lines; of the others; of what one marks, records and templates.
# Measured, in seven runs: true lines .01 to .08 less, others .002 less at most, records 2 to 9 % and templates 1 to 25 % less.
RECALL_TOLERANCE, FALSE_TOLERANCE = 0.10, 0.003
MARKED_TOLERANCES = {"share_of_anomalous": 0.12, "share_of_anomalous_shapes": 0.3}
AGENTS = 3
FLEETS = [("one", 1, False), ("three", AGENTS, True)]


class Shelter(Stage):
    """Where the Kafka and the agents live."""

    deadline_seconds = 900


def setUpModule():
    shelter = Cluster.stage = Shelter()
    shelter.open_stage()
    unittest.addModuleCleanup(shelter.close_stage)
    words = takes_cluster(shelter.dir)
    if words is not None:
        raise AssertionError(f"the program knows no cluster, build it with the feature kafka: {words}")
    Cluster.gateway = runs.Gateway()
    unittest.addModuleCleanup(Cluster.gateway.close)
    Cluster.kafka = Kafka(shelter, gates=[Cluster.gateway]).start()
    unittest.addModuleCleanup(Cluster.kafka.close)


class Cluster(unittest.TestCase):
    def calm(self, stream, ari_tolerance=ARI_TOLERANCE):
        # A test's own time: from here on.
        self.stage.deadline = time.monotonic() + 400
        run, figures = runs.calm(self.stage, self.kafka, stream, SPEED, FLEETS)
        one, three = figures["one"], figures["three"]
        shown = "\n" + table([one, three], beside=one)
        print(shown, flush=True)
        for fleet in run.fleets:
            missing, changed, copies = run.oracle(fleet)
            fleet.end()
            with self.subTest("every record once", fleet=fleet.group):
                self.assertEqual((missing, changed, dict(copies)), ([], [], {}))
                self.assertEqual(len(figures[fleet.name].records), len(stream))
        with self.subTest("the same whichever agent is asked"):
            self.assertEqual((three.unknown, three.among()), (set(), 1.0), shown)
        with self.subTest("incidents match the faults as one agent's do"):
            self.assertLessEqual(three.behind(one), ari_tolerance, shown)
            self.assertLessEqual(three.behind_but_for_one(one)[0], ARI_TOLERANCE, shown)
        with self.subTest("as much is marked"):
            self.assertAlmostEqual(three.recall(), one.recall(), delta=RECALL_TOLERANCE, msg=shown)
            self.assertAlmostEqual(three.share_of_false(), one.share_of_false(), delta=FALSE_TOLERANCE, msg=shown)
            for share, tolerance in MARKED_TOLERANCES.items():
                wanted = getattr(one, share)()
                self.assertAlmostEqual(getattr(three, share)(), wanted, delta=wanted * tolerance, msg=share + shown)
        with self.subTest("they did share"):
            self.assertTrue(all(counts["harbinger_cluster_entries_folded_total"] for counts in three.metrics.values()), shown)
            self.assertEqual({counts["harbinger_cluster_members"] for counts in three.metrics.values()}, {AGENTS}, shown)

    def test_the_recording_in_peace(self):
        self.calm(recording(whole=True))

    def test_overlapping_faults_in_peace(self):
        stream = overlap60(whole=True)
        if stream is None:
            self.skipTest(f"{OVERLAP60} is not there; HARBINGER_DATA_DIR names another folder")
        self.calm(stream, OVERLAP60_ARI_TOLERANCE)

    def test_kills_and_outages(self):
        """Kafka away for the cluster alone; an agent killed, one added; the broker killed; all of Kafka away for a minute."""
        self.stage.deadline = time.monotonic() + 400
        run, figures, happened = runs.disturbed(self.stage, self.kafka, self.gateway, recording())
        (fleet,) = run.fleets
        missing, changed, copies = run.oracle(fleet)
        shown = "\n" + "\n".join([*happened, table([figures]), f"copies: {runs.told(copies)}"])
        print(shown, flush=True)
        self.assertEqual((missing, changed), ([], []), shown)
        self.assertEqual(runs.unexplained(copies), 0, shown)
        self.assertEqual((figures.unknown, figures.among()), (set(), 1.0), shown)
        # Names of an agent's own are often the cluster's all the same, so there need be no alias.
        self.assertGreater(figures.counted("harbinger_cluster_alone_log_records_total"), 0, "nobody went on alone" + shown)
        self.assertEqual(figures.verdicts("warming_up"), 0, "an agent that is added is ready before its first record" + shown)
        fleet.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
