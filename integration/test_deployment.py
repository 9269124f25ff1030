"""What deploys Harbinger (config-examples/docker, kubernetes, systemd), without a container engine or a cluster.

Guarantees:

* each file is accepted, without a warning, by the code of the program that will read it: BuildKit, Docker Compose,
  Kubernetes' strict decoding and Pod Security, systemd (`deployment/`, `systemd-analyze`); a mistake in one is seen;
* what each of them runs does run: its command, user, variables, configuration and health checks as they stand there, on the
  release archive, in a root directory that cannot be written to but for the state (see deployed.py): it becomes ready, takes
  a record, passes it on judged, and ends in order within the time it is given.

Not tried: pulling and building images, and the programs of others in them. Grafana's and Loki's own files have tests of
their own.
"""

import configparser
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from deployed import Destination, RootDirectory, may_mount
from processes import EXAMPLES, ROOT, ProcessTest, binary, free_port, harbinger, otelcol

DOCKER = EXAMPLES / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
GATEWAY = EXAMPLES / "kubernetes" / "gateway.yaml"
CLUSTER = EXAMPLES / "kubernetes" / "cluster.yaml"
UNIT = EXAMPLES / "systemd" / "harbinger.service"
# More exposure than this, of 10, and `systemd-analyze security` refuses the unit; it has 1.2.
EXPOSURE = 1.5
# prctl(2): from here on no memory of this process, or of what it becomes, turns from written to executed.
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def read(*arguments):
    """What the reader of deployment files (deployment/main.go) says."""
    reader = binary("DEPLOYMENT_BIN", "target/integration/deployment", "build it (integration/deployment/build.sh)")
    return subprocess.run([reader, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def accepted(*arguments):
    done = read(*arguments)
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def seconds(text):
    """Of 30s, 1m30s or 30."""
    units = {"h": 3600, "m": 60, "s": 1, "": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(h|m|s|)", text))


def shutdown_timeout(configuration, environment=None):
    """service.shutdown_timeout of a configuration, in seconds, as the program under test understands it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(configuration)
        file.flush()
        printed = subprocess.run(
            [harbinger(), "print-config", "--config", file.name], env={**os.environ, **(environment or {})},
            capture_output=True, text=True, check=True,
        ).stdout
    return seconds(re.search(r"^ +shutdown_timeout: (\S+)$", printed, re.M)[1])


class Deployed(ProcessTest):
    """An agent in a root directory of its own."""

    def deploy(self, arguments, environment, configuration, directory="/", **how):
        """Starts `arguments` with what must differ from machine to machine: ports, and where records go."""
        if not may_mount():
            self.skipTest("this machine lets nobody mount, so there can be no root directory that is read-only")
        self.root = RootDirectory(self.dir / "root", configuration)
        self.environment = environment
        self.destination = Destination()
        self.addCleanup(self.destination.close)
        self.ports = {name: free_port() for name in ("grpc", "http", "health", "metrics")}
        local = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        readers = f"[{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {self.ports['metrics']}}}}}}}}}]"
        changes = {
            "receivers.otlp.protocols.grpc.endpoint": local["grpc"],
            "receivers.otlp.protocols.http.endpoint": local["http"],
            "extensions.health_check.endpoint": local["health"],
            "extensions.harbinger_api.endpoint": "127.0.0.1:0",
            "extensions.harbinger_page.endpoint": "localhost:0",
            "exporters.otlp_http.endpoint": self.destination.url,
            "service.telemetry.metrics.readers": readers,
        }
        changed = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        # Nothing in there can be written to, or this test would prove little.
        written = self.root.run(["touch", "/etc/harbinger/written", "/tmp/written", "/usr/written"], environment)
        self.assertEqual(written.stderr.count("Read-only file system"), 3, written.stderr)
        # The same files and variables satisfy `validate`.
        self.assertEqual(arguments[1], "run")
        checked = self.root.run([arguments[0], "validate", *arguments[2:]], environment)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        command = self.root.command([*arguments, *changed], environment, directory)
        self.agent = self.start("harbinger", command, **how)

    def status(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['health']}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as answer:
            return answer.code
        except OSError:
            return None

    def passes_on_and_ends(self, within):
        """A record comes out at the destination, judged; the state is on disk, the agent's; SIGTERM ends it in time."""
        self.assertEqual(self.status("/detection"), 200, self.agent.words())
        text = "checkout could not reach payment: connection refused"
        record = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": text}}]}]}]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['http']}/v1/logs", json.dumps(record).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.assertEqual(answer.status, 200)

        def came_out():
            return any(text.encode() in body and b"is_anomaly" in body for body in self.destination.bodies)

        self.wait_until(came_out, "the record is at the destination, judged", [self.agent])
        user = os.stat(f"/proc/{self.agent.popen.pid}").st_uid
        self.assertEqual(user, self.root.user if os.geteuid() == 0 else os.geteuid())
        self.assertEqual(self.agent.kill(signal.SIGTERM, within), 0, self.agent.words())
        kept = {path.relative_to(self.root.state).parts[0] for path in self.root.state.rglob("*") if path.is_file()}
        self.assertEqual(kept, {"queue", "state"})


class Image(Deployed):
    @classmethod
    def setUpClass(cls):
        cls.build = accepted("dockerfile", DOCKERFILE, ROOT)
        cls.config = cls.build["image"]["config"]

    def test_buildkit_has_nothing_to_say_against_it(self):
        """Every check of `docker build --check`, experimental ones included."""
        self.assertEqual(self.build["warnings"], [])

    def test_a_mistake_in_it_is_seen(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(DOCKERFILE.read_text().replace("WORKDIR /source", "WORKDIR source").replace("COPY . .", "COPPY . ."))
            file.flush()
            self.assertIn("unknown instruction: COPPY", read("dockerfile", file.name, ROOT).stderr)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(DOCKERFILE.read_text().replace("WORKDIR /source", "WORKDIR source"))
            file.flush()
            self.assertEqual([w["rule"] for w in accepted("dockerfile", file.name, ROOT)["warnings"]], ["WorkdirRelativePath"])

    def test_it_is_run_by_a_number_that_is_not_root(self):
        """Kubernetes' runAsNonRoot can only see numbers."""
        self.assertRegex(self.config["User"], r"^[1-9]\d*:[1-9]\d*$")

    def test_the_context_has_the_sources_and_nothing_that_is_built_from_them(self):
        files = set(self.build["context"])
        sources = [path for folder in ("src", "proto", "config-examples", "integration/assets", "integration/release")
                   for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        sources += [ROOT / name for name in ("Cargo.toml", "Cargo.lock", "build.rs", "Makefile", "LICENSE")]
        missing = {str(path.relative_to(ROOT)) for path in sources} - files
        self.assertEqual(missing, set())
        built = {file for file in files if file.split("/")[0] in ("target", "assets", ".git", "fuzz")}
        self.assertEqual(built, set())
        self.assertLess(sum((ROOT / file).lstat().st_size for file in files), 16 << 20)

    def test_what_it_runs_runs(self):
        """Its own command, user and variables, and its health check: red before, green while it is ready, red after."""
        environment = dict(variable.split("=", 1) for variable in self.config["Env"])
        arguments = [*self.config["Entrypoint"], *self.config["Cmd"]]
        check = self.config["Healthcheck"]["Test"]
        self.assertEqual(check[0], "CMD")
        (state,) = self.config["Volumes"]
        self.assertEqual(state, "/var/lib/harbinger")
        self.deploy(arguments, environment, (DOCKER / "harbinger.yaml").read_text(), self.config["WorkingDir"])
        here = [word.replace("13133", str(self.ports["health"])) for word in check[1:]]
        self.assertNotEqual(here, check[1:], "the check asks another port")

        def healthy():
            return self.root.run(here, environment).returncode == 0

        self.wait_until(healthy, "the image's health check is green", [self.agent])
        self.passes_on_and_ends(30)
        self.assertFalse(healthy())


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = DOCKER / "docker-compose.yaml"
        cls.project = accepted("compose", cls.file)
        cls.services = cls.project["services"]

    def test_a_mistake_in_it_is_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "docker-compose.yaml"
            file.write_text(self.file.read_text().replace("read_only:", "readonly:"))
            self.assertIn("readonly", read("compose", file).stderr)

    def test_whatever_it_mounts_is_in_the_repository(self):
        for name, service in self.services.items():
            for mount in service.get("volumes", []):
                if mount["type"] == "bind" and Path(mount["source"]).is_relative_to(ROOT):
                    self.assertTrue(Path(mount["source"]).exists(), f"{name}: {mount['source']}")
                    self.assertTrue(mount["read_only"], f"{name}: {mount['source']}")
            build = service.get("build")
            if build:
                self.assertTrue((Path(build["context"]) / build["dockerfile"]).is_file(), name)

    def test_only_this_machine_is_let_in(self):
        ports = [port for service in self.services.values() for port in service.get("ports", [])]
        self.assertEqual({port.get("host_ip") for port in ports}, {"127.0.0.1"})

    def test_no_service_may_become_more_than_it_is(self):
        for name, service in self.services.items():
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
        self.assertTrue(self.services["harbinger"]["read_only"])

    def test_images_of_others_have_a_version(self):
        for name, service in self.services.items():
            if "build" not in service:
                self.assertRegex(service["image"], r":v?\d+\.\d+\.\d+$", name)

    def test_harbinger_has_the_time_to_end(self):
        granted = seconds(self.services["harbinger"]["stop_grace_period"])
        self.assertGreater(granted, shutdown_timeout((DOCKER / "harbinger.yaml").read_text()))

    def test_the_collector_takes_its_configuration_and_sends_to_harbinger(self):
        """`otelcol validate`, with its directory elsewhere; and the names and ports of the services are those it uses."""
        with tempfile.TemporaryDirectory() as folder:
            command = [otelcol(), "validate", "--config", DOCKER / "collector.yaml",
                       "--config", f"yaml:extensions::file_storage::directory: {folder}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("harbinger", self.services)
        self.assertIn("endpoint: harbinger:4317", (DOCKER / "collector.yaml").read_text())
        self.assertEqual(self.services["harbinger"]["environment"]["HARBINGER_LOKI"], "http://loki:3100/otlp")


class Kubernetes(Deployed):
    """One agent: gateway.yaml."""

    manifest = GATEWAY

    @classmethod
    def setUpClass(cls):
        found = accepted("kubernetes", cls.manifest)
        cls.forbidden = found["forbidden"]
        cls.objects = {(thing["kind"], thing["metadata"]["name"]): thing for thing in found["objects"]}
        cls.set = cls.objects["StatefulSet", "harbinger"]["spec"]
        cls.pod = cls.set["template"]["spec"]
        (cls.container,) = cls.pod["containers"]
        (cls.configuration,) = cls.objects["ConfigMap", "harbinger"]["data"].values()
        # What the container's environment has of the first pod.
        fields = {"metadata.name": f"{cls.objects['StatefulSet', 'harbinger']['metadata']['name']}-0"}
        cls.variables = {one["name"]: fields[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in cls.container.get("env", [])}

    def test_a_mistake_in_it_is_seen(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.manifest.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
            file.flush()
            self.assertIn("readOnlyRootFileSystem", read("kubernetes", file.name).stderr)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.manifest.read_text().replace("drop: [ALL]", "drop: []"))
            file.flush()
            self.assertEqual([f["reason"] for f in accepted("kubernetes", file.name)["forbidden"]], ["unrestricted capabilities"])

    def test_its_namespace_may_enforce_the_restricted_standard(self):
        self.assertEqual(self.forbidden, [])
        labels = self.objects["Namespace", "harbinger"]["metadata"]["labels"]
        self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")

    def test_it_can_write_to_its_volume_only(self):
        self.assertTrue(self.container["securityContext"]["readOnlyRootFilesystem"])
        writable = [m["mountPath"] for m in self.container["volumeMounts"] if not m.get("readOnly")]
        self.assertEqual(writable, ["/var/lib/harbinger"])
        self.assertFalse(self.pod["automountServiceAccountToken"])

    def test_it_has_the_time_to_end(self):
        self.assertGreater(self.pod["terminationGracePeriodSeconds"], shutdown_timeout(self.configuration, self.variables))

    def test_memory_is_bounded_and_asked_for(self):
        resources = self.container["resources"]
        self.assertEqual(set(resources["requests"]), {"cpu", "memory"})
        self.assertIn("memory", resources["limits"])

    def test_everything_finds_the_pods(self):
        """Selectors and names agree: services, the disruption budget and the network policy are about these pods."""
        labels = self.set["template"]["metadata"]["labels"].items()
        for (kind, name), thing in self.objects.items():
            spec = thing.get("spec", {})
            selector = spec.get("podSelector", spec.get("selector"))
            if selector is not None:
                self.assertLessEqual(selector.get("matchLabels", selector).items(), labels, (kind, name))
            if kind != "Namespace":
                self.assertEqual(thing["metadata"]["namespace"], "harbinger", (kind, name))
        self.assertIn(("Service", self.set["serviceName"]), self.objects)
        ports = {port["name"] for port in self.container["ports"]}
        for name in ("harbinger", "harbinger-pods"):
            self.assertLessEqual({p["targetPort"] for p in self.objects["Service", name]["spec"]["ports"]}, ports)

    def test_what_it_runs_runs(self):
        """The container's arguments on the image's entry point, with the ConfigMap's configuration, and all its probes."""
        image = accepted("dockerfile", DOCKERFILE, ROOT)["image"]["config"]
        environment = dict(variable.split("=", 1) for variable in image["Env"]) | self.variables
        self.assertEqual(f"{self.pod['securityContext']['runAsUser']}:{self.pod['securityContext']['runAsGroup']}", image["User"])
        numbers = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        for name, configured in (("otlp-grpc", "0.0.0.0:4317"), ("otlp-http", "0.0.0.0:4318"), ("health", "0.0.0.0:13133")):
            self.assertIn(f"endpoint: {configured}\n", self.configuration)
            self.assertEqual(numbers[name], int(configured.split(":")[1]))
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        self.assertEqual(self.container["image"], f"harbinger:{version}")
        self.deploy([*image["Entrypoint"], *self.container["args"]], environment, self.configuration)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            ask = self.container[probe]["httpGet"]
            self.assertEqual(ask["port"], "health")
            self.wait_until(lambda path=ask["path"]: self.status(path) == 200, f"{probe} is green", [self.agent])
        self.passes_on_and_ends(self.pod["terminationGracePeriodSeconds"])


class KubernetesCluster(Kubernetes):
    """Three agents that share incidents and memory: cluster.yaml. Its Kafka is away here, and each of them does its work all the same."""

    manifest = CLUSTER

    def test_it_can_be_applied_over_one_agent(self):
        """The same objects; of the StatefulSet, what Kubernetes lets nobody change is the same, so the one pod keeps its volume."""
        one = {(thing["kind"], thing["metadata"]["name"]): thing for thing in accepted("kubernetes", GATEWAY)["objects"]}
        self.assertEqual(self.objects.keys(), one.keys())
        before = one["StatefulSet", "harbinger"]["spec"]
        for key in ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates"):
            self.assertEqual(self.set[key], before[key], key)

    def test_each_pod_is_an_agent_of_its_own(self):
        """By its name, which it keeps; on a volume of its own; and a drain takes one at a time."""
        self.assertGreater(self.set["replicas"], 1)
        self.assertIn("agent_id: ${env:POD_NAME}\n", self.configuration)
        self.assertEqual(self.variables, {"POD_NAME": "harbinger-0"})
        self.assertEqual(len(self.set["volumeClaimTemplates"]), 1)
        self.assertEqual(self.objects["PodDisruptionBudget", "harbinger"]["spec"]["maxUnavailable"], 1)

    def test_the_load_balancing_exporter_finds_the_pods_that_are_ready(self):
        """By the name of the headless Service, on the port of OTLP/gRPC; the Collector's example has both."""
        service = self.objects["Service", self.set["serviceName"]]
        self.assertEqual(service["spec"]["clusterIP"], "None")
        self.assertFalse(service["spec"].get("publishNotReadyAddresses"))
        port = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "otlp-grpc")
        example = (EXAMPLES / "collector-by-trace.yaml").read_text()
        name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        self.assertIn(f"${{env:HARBINGER_NAME:-{name}}}", example)
        self.assertIn(f"${{env:HARBINGER_PORT:-{port}}}", example)


class Unit(Deployed):
    """The unit of systemd."""

    def setUp(self):
        super().setUp()
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read(UNIT)
        self.service = parser["Service"]
        self.configuration = (EXAMPLES / "systemd" / "harbinger.yaml").read_text()

    def analyzed(self, text, *command):
        """What systemd-analyze says of a unit in a root of its own, so that its program is where it says."""
        if not shutil.which("systemd-analyze"):
            self.skipTest("this machine has no systemd-analyze")
        root = Path(tempfile.mkdtemp(dir=self.dir))
        for program in ("opt/harbinger/harbinger", "bin/kill"):
            (root / program).parent.mkdir(parents=True)
            shutil.copy("/bin/kill", root / program)
        # The units that every service waits for.
        shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True)
        units = root / "etc/systemd/system"
        units.mkdir(parents=True)
        (units / "harbinger.service").write_text(text)
        command = ["systemd-analyze", *command, f"--root={root}", "harbinger.service"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_systemd_has_nothing_to_say_against_it(self):
        done = self.analyzed(UNIT.read_text(), "verify")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_mistake_in_it_is_seen(self):
        done = self.analyzed(UNIT.read_text().replace("RestartSec=", "RestartSecs="), "verify")
        self.assertIn("Unknown key 'RestartSecs'", done.stderr)

    def test_it_is_exposed_no_more_than_a_server_must_be(self):
        limit = f"--threshold={round(EXPOSURE * 10)}"
        done = self.analyzed(UNIT.read_text(), "security", "--offline=true", "--no-pager", limit)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        bare = re.sub(r"^(Protect|Private|Restrict|SystemCall|Capability|DynamicUser).*$", "", UNIT.read_text(), flags=re.M)
        self.assertNotEqual(self.analyzed(bare, "security", "--offline=true", "--no-pager", limit).returncode, 0)

    def test_it_has_the_time_to_end(self):
        limit = shutdown_timeout(self.configuration, {"STATE_DIRECTORY": "/var/lib/harbinger"})
        self.assertGreater(seconds(self.service["TimeoutStopSec"]), limit)

    def test_what_it_runs_runs(self):
        """ExecStart as it stands, its directories as systemd gives them, and MemoryDenyWriteExecute by the kernel's own
        means. ExecReload's signal leaves it running."""
        libc = ctypes.CDLL(None, use_errno=True)

        def deny_write_execute():
            if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "this kernel has no PR_SET_MDWE (6.3 or newer)")

        forbidden = subprocess.run(
            [sys.executable, "-c", "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"],
            preexec_fn=deny_write_execute, capture_output=True, text=True, check=False,
        )
        self.assertIn("PermissionError", forbidden.stderr, "write and execute is not denied")

        self.assertEqual(self.service["StateDirectory"], "harbinger")
        environment = {"STATE_DIRECTORY": "/var/lib/harbinger", "PATH": "/usr/bin:/bin"}
        self.deploy(shlex.split(self.service["ExecStart"]), environment, self.configuration, preexec_fn=deny_write_execute)
        self.wait_until(lambda: self.status("/readyz") == 200, "the service is ready", [self.agent])
        reload = shlex.split(self.service["ExecReload"].replace("$MAINPID", str(self.agent.popen.pid)))
        subprocess.run(reload, check=True)
        self.passes_on_and_ends(seconds(self.service["TimeoutStopSec"]))


if __name__ == "__main__":
    unittest.main()
