"""Real processes under test: starting, watching and stopping them, and waiting for what they do.

Nothing here sleeps for a guessed time. Tests wait for a condition (a port open, a file complete) up
to a deadline, and give up at once, showing the processes' own words, when one of them has died.
Only the standard library is used.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "config-examples"

# How often a condition is looked at. Not a guess at how long anything takes.
LOOK_EVERY = 0.05


def binary(variable, default, how):
    """The path of a program under test, or a failure that says how to get it."""
    path = Path(os.environ.get(variable) or ROOT / default)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise AssertionError(f"{path} is not there: {how}, or set {variable}")
    return str(path.resolve())


def harbinger():
    return binary("HARBINGER_BIN", "target/release/harbinger", "build it (cargo build --release)")


def otelcol():
    return binary("OTELCOL_BIN", "target/integration/otelcol", "build it (integration/collector/build.sh)")


def alertmanager():
    return binary("ALERTMANAGER_BIN", "target/integration/alertmanager", "build it (integration/alertmanager/build.sh)")


def loki():
    return binary("LOKI_BIN", "target/integration/loki", "build it (integration/loki/build.sh)")


def prometheus():
    return binary("PROMETHEUS_BIN", "target/integration/prometheus", "build it (integration/prometheus/build.sh)")


def promtool():
    return binary("PROMTOOL_BIN", "target/integration/promtool", "build it (integration/prometheus/build.sh)")


def kafka():
    """The folder of Apache Kafka's Java archives."""
    path = Path(os.environ.get("KAFKA_DIR") or ROOT / "target/integration/kafka")
    if not any(path.glob("kafka_*.jar")):
        raise AssertionError(f"{path} is not there: fetch it (integration/kafka/build.sh), or set KAFKA_DIR")
    return path.resolve()


_given_ports = set()


def free_port():
    """A port of this machine that nobody listens on, and that this function gives only once."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


class Process:
    """A running program whose output goes to a file. `how` is what else `subprocess.Popen` should know."""

    def __init__(self, name, command, log, env=None, **how):
        self.name = name
        self.log = Path(log)
        with open(self.log, "ab") as out:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            self.popen = subprocess.Popen(command, env={**os.environ, **(env or {})}, **{"cwd": ROOT, **streams, **how})

    def alive(self):
        return self.popen.poll() is None

    def kill(self, how=signal.SIGTERM, within=30):
        """Sends a signal and returns the exit code once the process is gone."""
        if self.alive():
            self.popen.send_signal(how)
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(
                f"{self.name} was still there {within} s after signal {int(how)}\n{self.words()}"
            ) from None

    def words(self, lines=40):
        """The end of what the process wrote."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return f"--- last words of {self.name} ({self.log.name}):\n" + "\n".join(s[:400] for s in text[-lines:])


TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(process):
    """Seconds of CPU that a process has taken so far, as the kernel counts them."""
    with open(f"/proc/{process.popen.pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def is_idle(*processes):
    """Whether each takes next to no CPU for half a second: an agent that has loaded its model, embedded and trained."""
    before = [cpu_s(process) for process in processes]
    time.sleep(0.5)
    return all(cpu_s(process) - then <= 0.02 for process, then in zip(processes, before))


class Stage:
    """A folder, and processes that do not outlive it."""

    # All that happens on it, starting programs included, must be done by then.
    deadline_seconds = 120

    def open_stage(self):
        self.deadline = time.monotonic() + self.deadline_seconds
        self.dir = Path(tempfile.mkdtemp(prefix="harbinger-it-"))
        self.processes = []

    def close_stage(self, keep_folder=False):
        for p in self.processes:
            if p.alive():
                p.popen.kill()
            p.popen.wait()
            for pipe in filter(None, (p.popen.stdin, p.popen.stdout)):
                pipe.close()
        if not keep_folder:
            shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, command, env=None, **how):
        p = Process(name, command, self.dir / f"{name}.{len(self.processes)}.log", env, **how)
        self.processes.append(p)
        return p

    def wait_until(self, condition, what, needs=()):
        """Waits until `condition` is true, while the processes in `needs` live; returns its value."""
        while True:
            value = condition()
            if value:
                return value
            for p in needs:
                if not p.alive():
                    raise AssertionError(f"{p.name} ended with code {p.popen.returncode} before {what}\n{p.words()}")
            if time.monotonic() > self.deadline:
                words = "\n".join(p.words() for p in self.processes)
                raise AssertionError(f"not within {self.deadline_seconds} s: {what}\n{words}")
            time.sleep(LOOK_EVERY)

    def wait_for_port(self, port, process):
        self.wait_until(lambda: _listening(port), f"{process.name} listens on {port}", [process])

    def wait_for_health(self, port, process, path="/"):
        self.wait_until(lambda: _healthy(port, path), f"{process.name} is healthy on {port}", [process])


class ProcessTest(Stage, unittest.TestCase):
    """A test with a stage of its own."""

    def setUp(self):
        self.open_stage()
        self.addCleanup(self.close_stage)


def _listening(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _healthy(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def detection(port):
    """What the agent with its health on that port says of detection: the status of the answer, and its word."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/detection", timeout=5) as answer:
            return answer.status, json.load(answer)["detection"]["status"]
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)["detection"]["status"]


class Writer(threading.Thread):
    """Keeps appending numbered lines to a file, as a busy program does, until told to stop."""

    def __init__(self, path, line, per_second=1000):
        super().__init__(daemon=True)
        self.path, self.line, self.per_second = path, line, per_second
        self.written = 0  # lines that are in the file, whole
        self.error = None
        self._extra = 0
        self._stop_asked = threading.Event()

    def run(self):
        try:
            chunk = max(1, self.per_second // 50)
            with open(self.path, "ab", buffering=0) as f:
                while not self._stop_asked.wait(chunk / self.per_second):
                    upto = self.written + chunk + self._extra
                    self._extra = 0
                    text = "".join(self.line(n) + "\n" for n in range(self.written, upto))
                    if f.write(text.encode()) != len(text.encode()):
                        raise OSError(f"short write to {self.path}")
                    self.written = upto
        except OSError as e:
            self.error = e

    def burst(self, lines):
        """Adds that many lines at once to what is written next."""
        self._extra = lines

    def stop(self):
        """Returns how many lines there are in the end."""
        self._stop_asked.set()
        self.join()
        if self.error:
            raise self.error
        return self.written
