"""A release, and Harbinger run from it in a root directory of its own, as an image, a pod or a service would have it.

No container engine is needed, only the kernel's mount namespaces: the root holds the release in /opt/harbinger, a
configuration in /etc/harbinger and this machine's /usr; nothing in it can be written to but the state's directory. The
program runs as user 10001 when the tests run as root, else as whoever runs them.
"""

import functools
import gzip
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from processes import ROOT, harbinger

# Everything below runs in a mount namespace of its own, so that nothing is left behind. $1 is the root, then the command.
ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
for place in usr proc sys dev; do mount --rbind "/$place" "$root/$place"; done
mount -o remount,bind,ro "$root/usr"
mount --bind "$root/var/lib/harbinger" "$root/var/lib/harbinger"
mount -o remount,bind,ro "$root"
exec "$@"
"""


def pack(into, **environment):
    """Packs the program under test, with assets/ as they are; returns the archive."""
    done = subprocess.run(
        [sys.executable, ROOT / "integration/release/release.py", "--into", into],
        env={**os.environ, "HARBINGER_BIN": harbinger(), **environment}, capture_output=True, text=True, check=False,
    )
    if done.returncode:
        raise AssertionError(f"no release: {done.stdout}{done.stderr}")
    (archive,) = into.glob("*.tar.gz")
    return archive


@functools.cache
def release():
    """An archive of the program under test, made once for all tests of a run."""
    folder = tempfile.TemporaryDirectory(prefix="harbinger-release-")
    release.folder = folder  # removed when the interpreter ends
    return pack(Path(folder.name))


def unpack(into):
    """The release's folder, unpacked as README says it."""
    subprocess.run(["tar", "-xzf", release(), "-C", into], check=True)
    (folder,) = into.iterdir()
    return folder


def enter():
    """What gives a command mounts of its own."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


@functools.cache
def may_mount():
    """Whether this machine lets a test mount; some sandboxes do not."""
    with tempfile.TemporaryDirectory() as place:
        mount = ["sh", "-c", 'mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', "sh", place]
        return subprocess.run([*enter(), *mount], capture_output=True, check=False).returncode == 0


class RootDirectory:
    """The root directory that a deployed agent sees."""

    user = 10001

    def __init__(self, path, configuration):
        self.path = path
        for place in ("opt", "etc/harbinger", "var/lib/harbinger", "tmp", "usr", "proc", "sys", "dev"):
            (path / place).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (path / link).symlink_to(f"usr/{link}")
        # Names, authorities of TLS and the loader's cache, as every image has them.
        for file in ("passwd", "hosts", "nsswitch.conf", "resolv.conf", "ld.so.cache"):
            if (Path("/etc") / file).exists():
                shutil.copy(Path("/etc") / file, path / "etc" / file)
        unpack(path / "opt").rename(path / "opt/harbinger")
        (path / "etc/harbinger/harbinger.yaml").write_text(configuration)
        self.state = path / "var/lib/harbinger"
        for made in (path, path / "etc/harbinger", path / "opt/harbinger"):
            made.chmod(0o755)
        self.state.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(self.state, self.user, self.user)

    def command(self, arguments, environment, directory="/"):
        """The command line that runs `arguments` in here, with this environment and no other."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        change = shlex.join(["cd", directory]) + ' && exec "$@"'
        inside = ["/usr/bin/env", "-i", *variables, "/bin/sh", "-c", change, "sh", *arguments]
        chroot = ["chroot", f"--userspec={self.user}:{self.user}"] if os.geteuid() == 0 else ["chroot"]
        return [*enter(), "sh", "-c", ENTER, "sh", str(self.path), *chroot, str(self.path), *inside]

    def run(self, arguments, environment):
        """Runs `arguments` in here to their end."""
        command = self.command(arguments, environment)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Destination:
    """An OTLP/HTTP destination in this process; `bodies` are the requests that it was sent, decompressed."""

    def __init__(self):
        self.bodies = bodies = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/otlp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
