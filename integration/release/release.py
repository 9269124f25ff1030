#!/usr/bin/env python3
"""Packs a release: all that a machine needs to run Harbinger, in one archive that needs neither cargo nor Python there.

In:  the program (target/release/harbinger, or $HARBINGER_BIN), assets/, config-examples/, what is written beside them.
Out: target/release-dist/harbinger-VERSION-ARCH-linux.tar.gz and, beside it, SHA256SUMS. In the archive one folder:
       harbinger                   without the tables of lines (names of functions stay, for backtraces)
       assets/                     model, tokenizer, ONNX Runtime with its licences: found there without being named
       config-examples/            to run it with: configurations, unit, manifests, dashboards, guide
       completions/, man/          for shells and for man, written by the program itself
       LICENSE, THIRD-PARTY-LICENSES.txt, sbom.cdx.json, README.md, CHANGELOG.md, SECURITY.md
       SHA256SUMS                  of every file in it
Promises: the same inputs give the same archive to the byte: sorted, owned by nobody in particular, all times those of
     $SOURCE_DATE_EPOCH or else of the commit. The archive is there whole or not at all.
Deliberately absent: signatures, which belong to whoever publishes; a build of the program, which is `make release`'s.
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from sbom import ASSETS, ROOT, Crates, bill, licences

PAGES = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"]
COMPLETIONS = {"bash": "harbinger.bash", "zsh": "_harbinger", "fish": "harbinger.fish"}


def fail(message):
    sys.exit(f"make release: {message}")


def time_of_release():
    """Seconds since 1970: the same for everybody who packs the same sources."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(commit.stdout) if commit.returncode == 0 else 0


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def said(command):
    """What a command prints; its words if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"`{' '.join(map(str, command))}` ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def lay_out(folder, binary, assets, at):
    """Everything that goes into the archive, as it will lie there."""
    for page in PAGES:
        shutil.copyfile(ROOT / page, folder / page)
    shutil.copytree(ROOT / "config-examples", folder / "config-examples", copy_function=shutil.copyfile)
    said(["strip", "--strip-debug", "-o", folder / "harbinger", binary])

    stamp = json.loads((assets / ".stamp.json").read_text())
    for file, known in stamp.items():
        if digest(assets / file) != known["sha256"]:
            fail(f"{assets / file} is not what `make assets` fetched: run it again")
        target = folder / "assets" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(assets / file, target)
    if absent := ASSETS.keys() - stamp.keys():
        fail(f"{', '.join(sorted(absent))} is not among the assets: run `make assets`")

    for shell, name in COMPLETIONS.items():
        (folder / "completions").mkdir(exist_ok=True)
        (folder / "completions" / name).write_text(said([binary, "completions", shell]))
    said([binary, "man", "--out", folder / "man"])

    crates = Crates()
    (folder / "sbom.cdx.json").write_text(bill(crates, stamp, at))
    (folder / "THIRD-PARTY-LICENSES.txt").write_text(licences(crates))
    sums = [f"{digest(path)}  {path.relative_to(folder)}\n" for path in sorted(folder.rglob("*")) if path.is_file()]
    (folder / "SHA256SUMS").write_text("".join(sums))


def pack(folder, archive, at):
    """The folder as an archive whose bytes depend on nothing but the files' contents, their names, and `at`."""

    def plain(entry):
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = at
        entry.mode = 0o755 if entry.isdir() or entry.name == f"{folder.name}/harbinger" else 0o644
        return entry

    with open(archive, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in [folder, *sorted(folder.rglob("*"))]:
                tar.add(path, str(path.relative_to(folder.parent)), recursive=False, filter=plain)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program = Path(os.environ.get("HARBINGER_BIN") or ROOT / "target/release/harbinger")
    arguments.add_argument("--binary", type=Path, default=program, help="the program to pack (%(default)s)")
    arguments.add_argument("--assets", type=Path, default=ROOT / "assets", help="what `make assets` has filled (%(default)s)")
    arguments.add_argument("--into", type=Path, default=ROOT / "target/release-dist", help="where the archive goes (%(default)s)")
    given = arguments.parse_args()

    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    if (answer := said([given.binary, "--version"]).split()) != ["harbinger", version]:
        fail(f"{given.binary} calls itself {' '.join(answer)}, Cargo.toml says {version}: build it anew")
    name = f"harbinger-{version}-{platform.machine()}-linux"
    at = time_of_release()
    given.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=given.into) as aside:
        folder = Path(aside) / name
        folder.mkdir()
        lay_out(folder, given.binary, given.assets, at)
        pack(folder, Path(aside) / "archive", at)
        archive = given.into / f"{name}.tar.gz"
        os.replace(Path(aside) / "archive", archive)
    (given.into / "SHA256SUMS").write_text(f"{digest(archive)}  {archive.name}\n")
    print(f"{archive} ({archive.stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    main()
