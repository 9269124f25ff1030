"""What stands between the sender and the sink: Harbinger and its peers, each a real process.

In:  programs that `make bench` has built or fetched, a port of the sink.
Out: hops with a port to send to, and what each has taken of the machine: CPU and memory as the kernel counts them.
Promises: every hop takes OTLP gRPC in plain text, has one destination, waits for its answer where it can (Rotel acknowledges before),
     and keeps nothing on disk but what Harbinger has learned; apart from that each has the settings it comes with.
Deliberately absent: contrib's isolationforest processor, which cannot be had through the Go module proxy here.
"""

from processes import binary, cpu_s, free_port, harbinger, is_idle, otelcol

HARBINGER = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
processors: {{harbinger: {{detection: {{mode: {mode}}}, state: {{directory: {folder}/state-{mode}}}}}}}
exporters: {{otlp_grpc: {{endpoint: "127.0.0.1:{sink}", compression: {compression}, tls: {{insecure: true}}}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [harbinger], exporters: [otlp_grpc]}}}}
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}
"""

COLLECTOR = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}", max_recv_msg_size_mib: 64}}}}}}}}
processors: {{attributes: {{actions: [
  {{key: is_anomaly, value: false, action: insert}}, {{key: harbinger.verdict, value: degraded, action: insert}}]}}}}
exporters: {{otlp_grpc: {{endpoint: "127.0.0.1:{sink}", compression: {compression}, tls: {{insecure: true}},
  sending_queue: {{enabled: false}}}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [otlp], processors: [{processors}], exporters: [otlp_grpc]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""


def rotel():
    return binary("ROTEL_BIN", "target/integration/rotel/rotel/rotel-agent", "fetch it (make bench does)")


class Hop:
    """A process on the way. `name` is what the table calls it."""

    def __init__(self, name):
        self.name = name
        self.process = None
        self.port = free_port()

    def start(self, stage, sink, compression):
        raise NotImplementedError

    def cpu_s(self):
        """Seconds of CPU that the process has taken so far."""
        return cpu_s(self.process)

    def memory_mib(self, what="VmRSS"):
        """Resident memory now, or at its highest (`VmHWM`)."""
        with open(f"/proc/{self.process.popen.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what + ":")) / 1024


class Direct(Hop):
    """No hop: the sender speaks to the sink."""

    def start(self, stage, sink, compression):
        self.port, self.process = sink, None

    def cpu_s(self):
        return 0.0

    def memory_mib(self, what="VmRSS"):
        return 0.0


class Harbinger(Hop):
    """Ours; `mode` as in `detection.mode`."""

    def __init__(self, name, mode="mark"):
        super().__init__(name)
        self.mode, self.health = mode, free_port()

    def start(self, stage, sink, compression):
        path = stage.dir / f"harbinger-{self.mode}-{self.port}.yaml"
        path.write_text(HARBINGER.format(port=self.port, sink=sink, compression=compression, mode=self.mode, folder=stage.dir,
                                         health=self.health, metrics=free_port()))
        self.process = stage.start(self.name, [harbinger(), "run", "--config", str(path)])
        stage.wait_for_health(self.health, self.process)
        # It listens before its model is loaded, which is no part of what is measured.
        stage.wait_until(self.is_idle, f"{self.name} is idle", [self.process])


    def is_idle(self):
        """Whether it has loaded its model, embedded and trained."""
        return is_idle(self.process)


class Collector(Hop):
    """The OpenTelemetry Collector, as a pipe or with processors."""

    def __init__(self, name, processors=""):
        super().__init__(name)
        self.processors = processors

    def start(self, stage, sink, compression):
        health, path = free_port(), stage.dir / f"collector-{self.port}.yaml"
        path.write_text(COLLECTOR.format(port=self.port, sink=sink, compression=compression, processors=self.processors, health=health))
        self.process = stage.start(self.name, [otelcol(), "--config", str(path)])
        stage.wait_for_health(health, self.process)


class Rotel(Hop):
    """Streamfold's Rotel, passing on."""

    def start(self, stage, sink, compression):
        if compression == "zstd":
            raise LookupError("Rotel's exporter has no zstd")
        self.process = stage.start(self.name, [
            rotel(), "start", "--otlp-grpc-endpoint", f"127.0.0.1:{self.port}", "--otlp-http-endpoint", f"127.0.0.1:{free_port()}",
            "--otlp-grpc-max-recv-msg-size-mib", "64", "--exporter", "otlp", "--otlp-exporter-protocol", "grpc",
            "--otlp-exporter-endpoint", f"http://127.0.0.1:{sink}", "--otlp-exporter-compression", compression,
        ])
        stage.wait_for_port(self.port, self.process)
