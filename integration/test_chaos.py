"""A short run of chaos (see chaos/), always the same one: 5,000 records, three kills, every way to fail.

Guarantees: whatever breaks, an acknowledged record arrives, unchanged; every copy beyond the first has a cause. Without a queue
the sender keeps what is not acknowledged; with one the agent does. `make chaos` is the long run.

Needs what `make integration-python` installs.
"""

import unittest

from chaos.agent import layers, refusal
from chaos.run import Run
from chaos.schedule import MODES, draw

SEED, RECORDS, KILLS = 5, 5_000, 3


class Chaos(unittest.TestCase):
    def run_of(self, queue=False, protocol="grpc"):
        words = refusal(layers(queue, protocol))
        if words is not None:
            self.skipTest(f"the program refuses the configuration: {words}")
        run = Run(draw(SEED, RECORDS, KILLS), queue, protocol, deadline_seconds=180)
        run.open_stage()
        self.addCleanup(run.close_stage)
        found = run.play()
        report = run.report(found)
        self.assertTrue(found.sound, f"python3 -m chaos --seed {SEED} --records {RECORDS} --kills {KILLS}\n{report}")
        self.assertEqual(len(run.kills), KILLS)
        self.assertGreaterEqual(found.arrived, RECORDS * 0.9, report)
        for mode in MODES:
            self.assertGreater(run.mode_seconds[mode], 0, f"the destination was never {mode}")
        copies = sum(found.duplicates.values())
        print(f"[{found.arrived:,} arrived, 0 missing, 0 changed, {copies:,} copies explained] ", end="", flush=True)

    def test_without_a_queue(self):
        """Acknowledged when the destination has it."""
        self.run_of()

    def test_with_a_queue(self):
        """Acknowledged when it is on disk; in the end everything drains, dead letters too once they are put back."""
        self.run_of(queue=True)

    def test_by_http(self):
        """OTLP/HTTP in and out, without a queue."""
        self.run_of(protocol="http")


if __name__ == "__main__":
    unittest.main(verbosity=2)
