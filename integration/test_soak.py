"""Twenty seconds of far more load than the destination can take (see chaos/soak.py; `make soak` is the long run).

Guarantees: what cannot be delivered is refused, not kept in memory; what was acknowledged has arrived.
Needs what `make integration-python` installs.
"""

import unittest

from chaos.soak import Soak


class Overload(unittest.TestCase):
    def test_memory_stays_and_acknowledged_is_delivered(self):
        soak = Soak(minutes=20 / 60, deadline_seconds=120)
        soak.open_stage()
        self.addCleanup(soak.close_stage)
        soak.play()
        self.assertFalse(soak.missing, soak.report())
        self.assertLessEqual(soak.peak, soak.ceiling, soak.report())
        self.assertGreater(soak.counts["acknowledged"], 0, soak.report())
        self.assertGreater(soak.counts["refused"], soak.counts["acknowledged"], "no overload\n" + soak.report())
        print(f"[{soak.peak:.0f} MiB at most, {soak.warm:.0f} warm] ", end="", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
