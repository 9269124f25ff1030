"""The load that `make bench` measures with is what it says: all of it arrives, marked, whatever the compression."""

import unittest

from bench.hops import Harbinger
from bench.rounds import Field, send


class Load(unittest.TestCase):
    def test_what_is_sent_arrives_marked(self):
        """So many requests at the sink as were sent, and in those that it reads in full every record is marked."""
        for compression in ("none", "gzip", "zstd"):
            with self.subTest(compression), Field([Harbinger("harbinger")], compression) as field:
                told = send(field.hops[0].port, compression=compression, records=10, pool=16, requests=400, seconds=600)
                came = field.sink.end()
                last = 0 if compression == "none" else 1
                self.assertEqual((told["requests"], told["records"]), (400, 400 * (10 + last)))
                self.assertEqual(came["requests"], told["requests"])
                self.assertEqual((came["read_requests"], came["read_records"]), (400 // 97, 400 // 97 * (10 + last)))
                self.assertEqual(came["read_marked"], came["read_records"])


if __name__ == "__main__":
    unittest.main()
