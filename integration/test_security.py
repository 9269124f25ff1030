"""Harbinger between the two ends of a real OpenTelemetry Collector, over TLS.

Guarantees:

* with mTLS on both ways and a token, every line of a file arrives once; certificates of another
  authority, put in place of the old ones, are used by the running agent on both its sides;
* a Collector with a wrong token, or without a certificate, gets nothing in;
* the model's runtime leaves nothing in the home directory, where its telemetry would begin.

Certificates are made by the `openssl` command. Else the standard library only. Needs HARBINGER_BIN
(default target/release/harbinger) and OTELCOL_BIN (default target/integration/otelcol).
"""

import json
import os
import subprocess
import unittest
import urllib.request

from processes import EXAMPLES, ROOT, ProcessTest, free_port, harbinger, otelcol
from recorded import records_of, requests_in

LINES = 2_000


class SecuredTest(ProcessTest):
    def setUp(self):
        super().setUp()
        names = ("receiver", "metrics", "judged")
        self.port = {name: free_port() for name in names}
        self.make_certificates("first")
        (self.dir / "tokens").write_text("right-token\n")
        self.log, self.out = self.dir / "in.log", self.dir / "out.jsonl"
        self.log.touch()

    def make_certificates(self, authority):
        """An authority, and a certificate of it for each side, over what was there."""

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=self.dir, check=True, capture_output=True)

        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "new-ca.pem", "-days", "2", "-subj", f"/CN={authority}")
        (self.dir / "names").write_text("subjectAltName=DNS:localhost\n")
        for name in ("agent", "collector"):
            openssl("req", *key, "-keyout", f"new-{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            sign = ["-CA", "new-ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
            openssl("x509", "-req", "-in", f"{name}.csr", *sign, "-out", f"new-{name}.pem")
        for path in self.dir.glob("new-*"):
            path.rename(self.dir / path.name.removeprefix("new-"))

    def tls(self, name, **more):
        files = {"cert_file": f"{self.dir}/{name}.pem", "key_file": f"{self.dir}/{name}.key", "reload_interval": "1s"}
        return files | {key: str(self.dir / "ca.pem") if value is True else value for key, value in more.items()}

    def start_agent(self):
        config = {
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {
                            "endpoint": f"localhost:{self.port['receiver']}",
                            "tls": self.tls("agent", client_ca_file=True),
                            "auth": {"authenticator": "bearertokenauth"},
                            "keepalive": {"server_parameters": {"max_connection_age": "1s"}},
                        }
                    }
                }
            },
            "processors": {"harbinger": {"state": {"enabled": False}, "detection": {"mode": "off"}}},
            "exporters": {
                "otlp_grpc": {
                    "endpoint": f"https://localhost:{self.port['judged']}",
                    "tls": self.tls("agent", ca_file=True),
                }
            },
            "extensions": {"bearertokenauth": {"filename": str(self.dir / "tokens")}},
            "service": {
                "extensions": ["bearertokenauth"],
                "pipelines": {
                    "logs": {"receivers": ["otlp"], "processors": ["harbinger"], "exporters": ["otlp_grpc"]}
                },
                "telemetry": {
                    "metrics": {
                        "readers": [
                            {"pull": {"exporter": {"prometheus": {"host": "localhost", "port": self.port["metrics"]}}}}
                        ]
                    }
                },
            },
        }
        path = self.dir / "agent.yaml"
        path.write_text(json.dumps(config))
        agent = self.start("harbinger", [harbinger(), "run", "--config", str(path)])
        self.wait_for_port(self.port["receiver"], agent)
        return agent

    def start_collector(self, token, tls):
        config = {
            "receivers": {
                "file_log": {"include": [str(self.log)], "start_at": "beginning"},
                "otlp": {
                    "protocols": {
                        "grpc": {
                            "endpoint": f"localhost:{self.port['judged']}",
                            "tls": self.tls("collector", client_ca_file=True) | {"client_ca_file_reload": True},
                            "keepalive": {"server_parameters": {"max_connection_age": "1s"}},
                        }
                    }
                },
            },
            "exporters": {
                "otlp_grpc": {
                    "endpoint": f"https://localhost:{self.port['receiver']}",
                    "tls": tls,
                    "headers": {"authorization": f"Bearer {token}"},
                    "retry_on_failure": {"initial_interval": "200ms", "max_interval": "1s", "max_elapsed_time": "0s"},
                },
                "file": {"path": str(self.out), "flush_interval": "100ms"},
            },
            "service": {
                "pipelines": {
                    "logs/in": {"receivers": ["file_log"], "exporters": ["otlp_grpc"]},
                    "logs/judged": {"receivers": ["otlp"], "exporters": ["file"]},
                },
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        path = self.dir / "collector.yaml"
        path.write_text(json.dumps(config))
        collector = self.start("otelcol", [otelcol(), "--config", str(path)])
        self.wait_for_port(self.port["judged"], collector)
        return collector

    def append(self, first, last):
        with open(self.log, "a") as f:
            f.writelines(f"line {n}\n" for n in range(first, last))

    def arrived(self):
        return [record["body"]["stringValue"] for request in requests_in(self.out) for record in records_of(request)]

    def metric(self, name):
        with urllib.request.urlopen(f"http://localhost:{self.port['metrics']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith(f"harbinger_{name}_total"))

    def test_every_line_arrives_over_mtls_with_a_token_also_when_all_certificates_change(self):
        agent = self.start_agent()
        collector = self.start_collector("right-token", self.tls("collector", ca_file=True))
        self.append(0, LINES)
        self.wait_until(lambda: len(self.arrived()) >= LINES, "the first lines are there", [agent, collector])
        self.assertEqual(sorted(self.arrived()), sorted(f"line {n}" for n in range(LINES)))
        # The Collector reads its authorities at its start only; the agent goes on.
        collector.kill()
        self.make_certificates("second")
        self.append(LINES, LINES + 1)
        collector = self.start_collector("right-token", self.tls("collector", ca_file=True))
        last = lambda: f"line {LINES}" in self.arrived()
        self.wait_until(last, "the last line is there", [agent, collector])

    def test_a_wrong_token_and_a_missing_certificate_get_nothing_in(self):
        agent = self.start_agent()
        self.append(0, 10)
        collector = self.start_collector("wrong-token", self.tls("collector", ca_file=True))
        refused = lambda: self.metric("receiver_unauthenticated_requests") > 0
        self.wait_until(refused, "the wrong token is counted", [agent, collector])
        collector.kill()
        collector = self.start_collector("right-token", {"ca_file": str(self.dir / "ca.pem")})
        said = lambda: "peer sent no certificates" in agent.log.read_text()
        self.wait_until(said, "the missing certificate is told of", [agent, collector])
        self.assertEqual((self.arrived(), self.metric("receiver_accepted_log_records")), ([], 0))
        self.assertNotIn("right-token", agent.log.read_text())
        self.assertNotIn("wrong-token", agent.log.read_text())


class QuietTest(ProcessTest):
    def test_the_runtime_s_telemetry_does_not_begin(self):
        """Where it begins, it keeps a device id and its events in the home directory, and looks for its maker's address."""
        home = self.dir / "home"
        home.mkdir()
        theirs = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
        environment = {name: value for name, value in os.environ.items() if name not in theirs} | {"HOME": str(home)}
        load = [harbinger(), "validate", "--config", str(EXAMPLES / "quickstart.yaml")]
        done = subprocess.run(load, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("model: ", done.stdout, done.stderr)
        self.assertEqual(sorted(home.rglob("*")), [])


if __name__ == "__main__":
    unittest.main()
