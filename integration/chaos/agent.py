"""The agent under test and the destination it speaks to, as processes on a stage.

In:  a stage (a folder, a deadline), and what is laid over agent.yaml: a queue, HTTP, TLS.
Out: both processes, and what can be done to them: kill, restart, fill the disk, make the destination fail.
Promise: an agent that is restarted finds the directories it left.
Deliberately absent: when any of this happens; that is the schedule's.

A disk is full without root and without a file system of its own: RLIMIT_FSIZE of the running agent is lowered to the size
of the largest file it has written, with SIGXFSZ ignored, so that no file of it can grow (EFBIG), what is there can be
overwritten, and small new files can be made: much as on a full disk.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from chaos.sink import HOST as SINK_HOST
from processes import ROOT, free_port, harbinger

HERE = Path(__file__).resolve().parent
# Not 127.0.0.1, for the reason the sink has.
AGENT_HOST = "127.0.0.3"


def layers(queue=False, protocol="grpc"):
    """What is laid over agent.yaml in a profile."""
    return [HERE / "http.yaml"] * (protocol == "http") + [HERE / "queue.yaml"] * queue


def files(over):
    return [argument for path in (HERE / "agent.yaml", *over) for argument in ("--config", str(path))]


_refusals = {}


def refusal(over, environment=None):
    """Why this program cannot run with these files over agent.yaml, in its own words; None if it can. Asked once."""
    key = tuple(over)
    if key not in _refusals:
        _refusals[key] = _refusal(over, environment)
    return _refusals[key]


def _refusal(over, environment):
    names = ("AGENT_GRPC", "AGENT_HTTP", "AGENT_HEALTH", "SINK_GRPC", "SINK_HTTP")
    places = {name: f"127.0.0.1:{port}" for port, name in enumerate(names, 1)}
    places |= {name: str(Path(tempfile.gettempdir()) / "harbinger-unused") for name in ("AGENT_STATE", "AGENT_QUEUE")}

    def validate(arguments):
        command = [harbinger(), "validate", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **places, **(environment or {})},
            capture_output=True, text=True, timeout=120, check=False,
        )
        return None if done.returncode == 0 else (done.stderr + done.stdout).strip()

    words = validate(files(over))
    if words is not None:
        plain = validate(files([]))
        if plain is not None:
            raise AssertionError(f"the program refuses even the plain profile:\n{plain}")
        # The files and lines are known; what it says of them is wanted.
        words = "; ".join(line.split(": ", 2)[-1] for line in words.splitlines() if line.startswith("error:")) or words
    return words


class Sink:
    """The destination's process; see sink.py."""

    def __init__(self, stage, *arguments):
        self.journal = stage.dir / "stored"
        command = [sys.executable, str(HERE / "sink.py"), str(self.journal), *arguments]
        self.process = stage.start("sink", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mode = "well"
        ports = self._heard()
        self.grpc, self.http = f"{SINK_HOST}:{ports['grpc']}", f"{SINK_HOST}:{ports['http']}"

    def _heard(self):
        line = self.process.popen.stdout.readline()
        if not line:
            raise AssertionError("the destination ended\n" + self.process.words())
        return json.loads(line)

    def turn(self, mode):
        """Returns once the mode is in force."""
        self.process.popen.stdin.write(json.dumps({"mode": mode}) + "\n")
        self.process.popen.stdin.flush()
        self._heard()
        self.mode = mode


class Agent:
    """`over`: files laid over agent.yaml; `sets`: single keys laid over those, as `a.b=c`."""

    def __init__(self, stage, sink, over=(), sets=(), environment=None):
        self.stage = stage
        self.sets = [argument for one in sets for argument in ("--set", one)]
        self.files = files(over)
        self.health = free_port()
        self.grpc, self.http = f"{AGENT_HOST}:{free_port()}", f"{AGENT_HOST}:{free_port()}"
        self.state, self.queue = stage.dir / "state", stage.dir / "queue"
        self.environment = {
            "AGENT_GRPC": self.grpc,
            "AGENT_HTTP": self.http,
            "AGENT_HEALTH": f"127.0.0.1:{self.health}",
            "AGENT_STATE": str(self.state),
            "AGENT_QUEUE": str(self.queue),
            "SINK_GRPC": sink.grpc,
            "SINK_HTTP": sink.http,
            **(environment or {}),
        }
        self.process = None

    def start(self):
        """Starts it, and returns once it is healthy."""
        command = [harbinger(), "run", *self.files, *self.sets]
        # restore_signals: Python ignores SIGXFSZ, and so does what it starts, if nobody restores it.
        self.process = self.stage.start("harbinger", command, self.environment, restore_signals=False)
        self.stage.wait_for_health(self.health, self.process)

    def command(self, *arguments):
        """Runs `harbinger` with other arguments; returns what it did."""
        command = [harbinger(), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=120, check=False,
        )

    def fill_disk(self):
        """From now on no file of the agent grows."""
        sizes = [path.stat().st_size for folder in (self.state, self.queue) for path in folder.rglob("*") if path.is_file()]
        self._limit(max(sizes, default=0))

    def empty_disk(self):
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size):
        resource.prlimit(self.process.popen.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
