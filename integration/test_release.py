"""The release archive: what `make release` makes of the program under test.

Guarantees:

* equal inputs give the same archive to the byte, whatever the time zone, the umask and the seed of hashes;
* unpacked anywhere it runs, with its model, by nothing but what is in it: no cargo, no Python, no environment; it writes
  nothing but what it was told to, and its runtime knows no address of anybody;
* every file is in SHA256SUMS; every crate that is linked, what npm has put into the page, the model and the runtime are in the bill of materials, with the
  hashes of the very files; every licence that must go along does;
* completions and manual pages are there, and shells take them.
"""

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import tomllib
import unittest
import urllib.request
from pathlib import Path

from deployed import pack, release, unpack
from processes import ROOT, ProcessTest, free_port
from recorded import attributes, records_of, requests_in


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Archive(unittest.TestCase):
    """What is in it."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="harbinger-it-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = unpack(Path(cls.temporary.name))

    def test_equal_inputs_give_equal_bytes(self):
        with tempfile.TemporaryDirectory(prefix="harbinger-it-") as other:
            before = os.umask(0o077)
            try:
                again = pack(Path(other), TZ="Pacific/Auckland", PYTHONHASHSEED="7")
            finally:
                os.umask(before)
            self.assertEqual(sha256(again), sha256(release()))
            self.assertEqual((again.parent / "SHA256SUMS").read_text(), f"{sha256(again)}  {again.name}\n")

    def test_every_file_has_its_sum(self):
        sums = dict(line.split("  ")[::-1] for line in (self.folder / "SHA256SUMS").read_text().splitlines())
        files = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()}
        self.assertEqual(sums, {name: sha256(path) for name, path in files.items() if name != "SHA256SUMS"})

    def test_everything_that_deploys_is_in_it(self):
        """Whatever the repository has below config-examples/, and the pages that tell of it."""
        wanted = [path for path in (ROOT / "config-examples").rglob("*") if path.is_file()]
        wanted += [ROOT / name for name in ("LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md")]
        for path in wanted:
            self.assertEqual(path.read_bytes(), (self.folder / path.relative_to(ROOT)).read_bytes(), path)

    def test_the_bill_of_materials_names_what_is_in_it(self):
        bill = json.loads((self.folder / "sbom.cdx.json").read_text())
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.6"))
        components = {component["bom-ref"]: component for component in bill["components"]}
        for file in ("libonnxruntime.so", "model/model.onnx", "model/model.data", "model/tokenizer.json"):
            component = components.pop(f"assets/{file}")
            self.assertEqual(component["hashes"], [{"alg": "SHA-256", "content": sha256(self.folder / "assets" / file)}])
        locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
        checksums = {f"{package['name']}@{package['version']}": package.get("checksum") for package in locked}
        # What is in the page: all that its lock file has for more than building.
        packages = json.loads((ROOT / "src/edge/api/page/web/package-lock.json").read_text())["packages"]
        wanted = {
            f"npm/{path.removeprefix('node_modules/')}@{one['version']}": base64.b64decode(one["integrity"].removeprefix("sha512-")).hex()
            for path, one in packages.items() if path and not one.get("dev")
        }
        page = {name: components.pop(name)["hashes"][0]["content"] for name in list(components) if name.startswith("npm/")}
        self.assertEqual(page, wanted)
        for name, component in components.items():
            self.assertEqual(component["hashes"][0]["content"], checksums[name], name)
            self.assertTrue(component["licenses"], name)
        # All that Cargo.toml names for the program, and nothing that is there for tests only.
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
        linked = {component["name"] for component in components.values()}
        named = {value.get("package", name) if isinstance(value, dict) else name for name, value in manifest["dependencies"].items()}
        self.assertLessEqual(named, linked)
        self.assertNotIn("proptest", linked)
        needed = {name for dependency in bill["dependencies"] for name in dependency.get("dependsOn", [])}
        self.assertLessEqual(components.keys(), needed, "nobody needs these")

    def test_the_licences_of_others_go_along(self):
        text = (self.folder / "THIRD-PARTY-LICENSES.txt").read_text()
        bill = json.loads((self.folder / "sbom.cdx.json").read_text())
        for component in bill["components"]:
            if component["purl"].startswith(("pkg:cargo/", "pkg:npm/")):
                self.assertIn(f"{component['name']} {component['version']} (", text)
        runtime = self.folder / "assets/licenses/onnxruntime"
        self.assertIn("MIT License", (runtime / "LICENSE").read_text())
        self.assertGreater((runtime / "ThirdPartyNotices.txt").stat().st_size, 100_000)

    def test_shells_take_the_completions(self):
        """bash's is loaded and asked; the others' are looked at when the machine has the shell."""
        script = self.folder / "completions/harbinger.bash"
        ask = f'source {script}; COMP_WORDS=(harbinger dead-l); COMP_CWORD=1; _harbinger harbinger dead-l harbinger; echo "${{COMPREPLY[@]}}"'
        asked = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False)
        self.assertEqual((asked.stdout.strip(), asked.stderr), ("dead-letters", ""))
        for shell, name in (("zsh", "_harbinger"), ("fish", "harbinger.fish")):
            self.assertIn("dead-letters", (self.folder / "completions" / name).read_text())
            if shutil.which(shell):
                subprocess.run([shell, "-n", self.folder / "completions" / name], check=True)

    def test_there_is_a_manual_page_for_the_program_and_each_command(self):
        pages = {path.name for path in (self.folder / "man").iterdir()}
        self.assertLessEqual({"harbinger.1", "harbinger-run.1", "harbinger-explain.1"}, pages)
        for page in pages:
            self.assertIn(".TH ", (self.folder / "man" / page).read_text(), page)


    def test_the_runtime_has_nobody_to_tell(self):
        """From 1.29 on ONNX Runtime's builds hold the address of its maker's collector and a database of what to send there."""
        library = (self.folder / "assets/libonnxruntime.so").read_bytes()
        for word in (b"OneCollector", b"telemetry_1ds", b"events.data.microsoft.com"):
            self.assertNotIn(word, library)


class Unpacked(ProcessTest):
    def test_it_runs_where_it_is_unpacked(self):
        """As README says it, in the folder, with an empty environment: records come out judged, by the model that is there.
        At home nothing is left, such as the device id of a runtime that tells its maker of itself."""
        folder = unpack(self.dir)
        (home := self.dir / "home").mkdir()
        port, health, out = free_port(), free_port(), self.dir / "judged.jsonl"
        agent = self.start(
            "harbinger",
            ["/usr/bin/env", "-i", f"HOME={home}", "./harbinger", "run", "--require-model", "--config", "config-examples/quickstart.yaml",
             "--set", f"receivers.otlp.protocols.grpc.endpoint=localhost:{port}",
             "--set", "receivers.otlp.protocols.http.endpoint=localhost:0",
             "--set", f"extensions.health_check.endpoint=localhost:{health}",
             "--set", "extensions.harbinger_api.endpoint=127.0.0.1:0",
             "--set", "extensions.harbinger_page.endpoint=localhost:0",
             "--set", f"exporters.file.path={out}",
             "--set", "service.telemetry.metrics.level=none"],
            cwd=folder,
        )
        self.wait_for_health(health, agent)
        with urllib.request.urlopen(f"http://127.0.0.1:{health}/detection", timeout=5) as answer:
            self.assertEqual(answer.status, 200)
        lines = self.dir / "app.log"
        lines.write_text("".join(f"request {n} from 10.0.0.{n % 250} took {n} ms\n" for n in range(1000)))
        replay = ["./harbinger", "replay", str(lines), "--to", f"http://localhost:{port}", "--speed", "max"]
        done = subprocess.run(replay, cwd=folder, env={}, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(agent.kill(signal.SIGTERM), 0, agent.words())
        self.assertEqual(list(home.rglob("*")), [])
        records = [record for request in requests_in(out) for record in records_of(request)]
        self.assertEqual(len(records), 1000)
        self.assertTrue(all("is_anomaly" in attributes(record) for record in records))


if __name__ == "__main__":
    unittest.main()
