"""What is in a release: a bill of materials (CycloneDX 1.6), and the licences that have to go along.

In:  `cargo tree`, `cargo metadata` and Cargo.lock, for the crates that the program on this kind of machine is made of (no build
     or test dependencies, nor what only those switch on, but sources that are compiled into it); assets/.stamp.json, for what was taken out of wheels, with the SHA-256 of each file;
     page.html, which ends with the npm packages of which something is in it, and the lock file that it was built by.
Out: `bill(...)`, JSON; `licences(...)`, one text with every licence and notice that the crates' packages hold, each once.
Promises: equal inputs give equal bytes: order, serial number and time do not depend on the clock or on chance.
Deliberately absent: judging the licences; `make lint` does (deny.toml). The Rust standard library, which is part of the
     compiler and no package, stands in the text without a file of its own.
"""

import base64
import json
import re
import subprocess
import sys
import tomllib
import uuid
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Where `make release` puts the packages of requirements.txt.
PACKAGES = ROOT / "target" / "release-python"
sys.path.insert(0, str(PACKAGES))
try:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL
except ImportError as missing:
    raise SystemExit(f"{missing}: `make release` fills {PACKAGES}") from None

# The files of assets/ that are no licences: what they are, and under which terms.
ASSETS = {
    "libonnxruntime.so": (ComponentType.LIBRARY, "ONNX Runtime", "MIT"),
    "model/model.onnx": (ComponentType.MACHINE_LEARNING_MODEL, "all-MiniLM-L6-v2", "Apache-2.0"),
    "model/model.data": (ComponentType.MACHINE_LEARNING_MODEL, "weights of all-MiniLM-L6-v2, rounded to 8 bits", "Apache-2.0"),
    "model/tokenizer.json": (ComponentType.DATA, "tokenizer of all-MiniLM-L6-v2", "Apache-2.0"),
}
PAGE = ROOT / "src/edge/api/page/page.html"
PAGE_LOCK = ROOT / "src/edge/api/page/web/package-lock.json"
# What the release is built with.
FEATURES = ("--features", "kafka")
# Crates of sources that a build script compiles into the program.
COMPILED_IN = ("openssl-src",)
LICENCE_FILE = re.compile(r"(licen[sc]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


class Crates:
    """The crates that the program is made of, and who needs whom."""

    def __init__(self, root=ROOT):
        def cargo(*command):
            return subprocess.run(["cargo", *command], cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout

        # The tree knows the features without those of the tests; the metadata know the rest.
        tree = cargo("tree", "--locked", *FEATURES, "--edges", "normal", "--prefix", "none", "--format", "{p}")
        linked = {tuple(line.split()[:2]) for line in tree.splitlines()}
        metadata = json.loads(cargo("metadata", "--locked", *FEATURES, "--format-version", "1"))
        packages = {package["id"]: package for package in metadata["packages"]}
        linked |= {(p["name"], f"v{p['version']}") for p in packages.values() if p["name"] in COMPILED_IN}
        packages = {crate: p for crate, p in packages.items() if (p["name"], f"v{p['version']}") in linked}
        nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        self.root = metadata["resolve"]["root"]
        self.needs = {
            crate: sorted(d["pkg"] for d in nodes[crate]["deps"]
                          if d["pkg"] in packages
                          and (packages[d["pkg"]]["name"] in COMPILED_IN or any(kind["kind"] is None for kind in d["dep_kinds"])))
            for crate in packages
        }
        self.packages = {crate: packages[crate] for crate in sorted(packages, key=lambda crate: _name(packages[crate]))}
        locked = tomllib.loads((root / "Cargo.lock").read_text())["package"]
        self.sums = {(package["name"], package["version"]): package.get("checksum") for package in locked}


def _name(package):
    return package["name"], package["version"]


def _terms(package):
    """The crate's licence as an SPDX expression; some still write a slash for OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def bundled():
    """The npm packages in the incident page, as it says itself: of each name, version, licence, its text, SHA-512 of the package."""
    notice = PAGE.read_text(encoding="utf-8").rsplit("<!--", 1)[1].rsplit("-->", 1)[0].strip()
    locked = json.loads(PAGE_LOCK.read_text(encoding="utf-8"))["packages"]
    for part in notice.split("\n\n", 1)[1].split("\n\n----\n\n"):
        head, text = part.split("\n\n", 1)
        name, version, terms = re.fullmatch(r"(\S+) (\S+) \((.+)\)", head).groups()
        integrity = locked[f"node_modules/{name}"]["integrity"].removeprefix("sha512-")
        yield name, version, terms, text.strip(), base64.b64decode(integrity).hex()


def bill(crates, stamp, at):
    """The bill of materials as JSON; `at` is the time that it bears, in seconds since 1970."""
    components = {}
    for crate, package in crates.packages.items():
        checksum = crates.sums[_name(package)]
        components[crate] = Component(
            type=ComponentType.APPLICATION if crate == crates.root else ComponentType.LIBRARY,
            name=package["name"],
            version=package["version"],
            description=package["description"],
            bom_ref=f"{package['name']}@{package['version']}",
            purl=PackageURL("cargo", None, package["name"], package["version"]),
            licenses=[LicenseExpression(_terms(package))],
            # Of the package as it was downloaded.
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
        )
    harbinger = components.pop(crates.root)
    assets = []
    for file, (kind, description, terms) in ASSETS.items():
        package, version = stamp[file]["origin"].split()[0].split("==")
        assets.append(Component(
            type=kind,
            name=Path(file).name,
            version=version,
            description=description,
            bom_ref=f"assets/{file}",
            purl=PackageURL("pypi", None, package, version),
            licenses=[LicenseExpression(terms)],
            # Of the file as it is in the release.
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=stamp[file]["sha256"])],
        ))
    page = []
    for name, version, terms, _, checksum in bundled():
        scope, _, short = name.rpartition("/")
        page.append(Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            description="in the incident page",
            bom_ref=f"npm/{name}@{version}",
            purl=PackageURL("npm", scope or None, short, version),
            licenses=[LicenseExpression(terms)],
            hashes=[HashType(alg=HashAlgorithm.SHA_512, content=checksum)],
        ))
    # Whoever compares two bills compares their contents: the serial number is a hash of those.
    contents = sorted((c.bom_ref.value, *(h.content for h in c.hashes)) for c in [*components.values(), *assets, *page])
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([harbinger.version, contents]))
    bom = Bom(
        components=[*components.values(), *assets, *page],
        serial_number=serial,
        metadata=BomMetaData(component=harbinger, timestamp=datetime.fromtimestamp(at, timezone.utc)),
    )
    everything = {crates.root: harbinger, **components}
    for crate, needs in crates.needs.items():
        bom.register_dependency(everything[crate], [everything[need] for need in needs])
    bom.register_dependency(harbinger, [*assets, *page])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def licences(crates):
    """The licences and notices of all crates and of what is in the page, each text once, below the names of those it came with."""
    texts, without = defaultdict(list), []
    for crate, package in crates.packages.items():
        if crate == crates.root:
            continue
        folder = Path(package["manifest_path"]).parent
        # Bundled C sources have theirs further down.
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and LICENCE_FILE.match(path.name)]
        files = [path for path in files if path.suffix in ("", ".md", ".txt", ".html") or path.suffix[1:].isupper()]
        name = f"{package['name']} {package['version']} ({_terms(package)})"
        for text in sorted({path.read_text(errors="replace").strip() for path in files}):
            texts[text].append(name)
        if not files:
            without.append(f"{name}, by {', '.join(package['authors']) or 'its authors'}: {package['repository']}")
    for name, version, terms, text, _ in bundled():
        texts[text].append(f"{name} {version} ({terms})")
    sections = [
        "Harbinger holds the work of others. Below are the licences and notices that came with it, each once, under the names of\n"
        "the packages that had it. The licences of ONNX Runtime and of what that holds are in assets/licenses/onnxruntime.\n"
        "The sentence model (assets/model) is all-MiniLM-L6-v2, Apache-2.0, whose text is in LICENSE. The Rust standard library\n"
        "is MIT OR Apache-2.0.\n\n"
        "Without a text of its own in the package:\n" + "\n".join(f"  {line}" for line in without)
    ]
    sections += ["\n".join(names) + "\n\n" + text for text, names in sorted(texts.items(), key=lambda item: item[1])]
    return f"\n\n{'=' * 100}\n\n".join(sections) + "\n"
