"""Nothing of the agent's own can be written any more: not its state, and not its log.

Guarantees: records are delivered all the same, refusals and retries included, and health says so; once there is room again,
the agent ends in order. The disk is full in the way that chaos/agent.py describes, from the first byte on.
Needs what `make integration-python` installs.
"""

import resource
import unittest

from chaos import wire
from chaos.agent import Agent, Sink
from chaos.sender import GrpcWay
from processes import ProcessTest


class FullDisk(ProcessTest):
    def limit(self, size):
        resource.prlimit(self.agent.process.popen.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def test_known_loss_disk_full(self):
        """The Collector's #7198, and a log that cannot be written: each warning is one."""
        self.sink = Sink(self)
        self.agent = Agent(self, self.sink)
        self.agent.start()
        way = GrpcWay(self.agent.grpc)
        self.addCleanup(way.close)
        self.assertEqual(way.send(wire.request(0, 0, 20)).status, "OK")

        self.limit(0)
        # Each of these makes the agent say something.
        self.sink.turn("unavailable")
        self.assertIn("UNAVAILABLE: next hop", way.send(wire.request(0, 1, 20)).status)
        self.sink.turn("lying")
        told = way.send(wire.request(0, 2, 20))
        self.assertEqual((told.status, told.rejected), ("OK", 3))
        self.sink.turn("well")
        for index in range(3, 10):
            self.assertEqual(way.send(wire.request(0, index, 200)).status, "OK")
        self.wait_for_health(self.agent.health, self.agent.process)

        self.limit(resource.RLIM_INFINITY)
        self.assertEqual(self.agent.process.kill(), 0, self.agent.process.words())
        self.assertIn("stopped", self.agent.process.log.read_text(), "the log goes on when there is room")


if __name__ == "__main__":
    unittest.main(verbosity=2)
