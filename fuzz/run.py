"""Looks for inputs that break a promise: builds the targets with coverage and gives each of them a while.

    python3 fuzz/run.py [--seconds 20] [--jobs 2] [TARGET ...]

libFuzzer is linked by the crate libfuzzer-sys; coverage comes from compiler flags of stable Rust, so neither a nightly
toolchain nor cargo-fuzz is needed. Sanitizers are off, as the stable toolchain has none: what is found is panics, broken
assertions, arithmetic overflow, inputs that take longer than ten seconds and ones that take more than two gigabytes.

Each run begins with fuzz/corpus/TARGET and keeps what it learns in target/fuzz/corpus/TARGET; `--merge` adds from there to
fuzz/corpus what covers more, smallest first. A find is written to fuzz/finds/TARGET, where `make test` runs it ever after;
it must be committed with its fix.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "target" / "fuzz"
COVERAGE = " ".join([
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
])
# An input larger than this teaches nothing that a smaller one does not.
MAX_BYTES = 4096


def targets():
    return sorted(path.stem for path in (HERE / "bin").glob("*.rs"))


def build():
    environment = {**os.environ, "RUSTFLAGS": COVERAGE, "CARGO_TARGET_DIR": str(BUILT), "CARGO_INCREMENTAL": "0"}
    # A target of its own name, so that build scripts are not built with coverage.
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    command = ["cargo", "build", "--locked", "--manifest-path", str(HERE / "Cargo.toml"), "--target", host]
    subprocess.run(command, env=environment, check=True)
    return BUILT / host / "debug"


def fuzz(built, target, seconds):
    """Runs one target; returns whether nothing was found, and what libFuzzer said."""
    learned, finds, kept = BUILT / "corpus" / target, HERE / "finds" / target, HERE / "corpus" / target
    for directory in (learned, finds, kept):
        directory.mkdir(parents=True, exist_ok=True)
    command = [
        str(built / target), str(learned), str(kept), f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={finds}/", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if not any(finds.iterdir()):
        finds.rmdir()
    return done.returncode == 0, done.stderr


def merge(built, target):
    learned, kept = BUILT / "corpus" / target, HERE / "corpus" / target
    if learned.is_dir():
        command = [str(built / target), "-merge=1", f"-max_len={MAX_BYTES}", str(kept), str(learned)]
        subprocess.run(command, capture_output=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(targets())}; all by default")
    parser.add_argument("--seconds", type=int, default=20, help="time for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at the same time")
    parser.add_argument("--merge", action="store_true", help="keep in fuzz/corpus what covers more")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have learned")
    flags = parser.parse_args()
    unknown = sorted(set(flags.targets) - set(targets()))
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(targets())}")
    chosen = flags.targets or targets()
    if flags.fresh:
        shutil.rmtree(BUILT / "corpus", ignore_errors=True)
    built = build()
    failed = []
    with ThreadPoolExecutor(max(1, flags.jobs)) as pool:
        outcomes = pool.map(lambda target: (target, *fuzz(built, target, flags.seconds)), chosen)
        for target, well, said in outcomes:
            runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
            covered = re.findall(r"cov: (\d+)", said)
            figures = f"{int(runs[1]) if runs else 0:>10,} runs, {covered[-1] if covered else '?':>6} edges"
            print(f"{target:<10} {figures}  {'nothing found' if well else 'FOUND, see fuzz/finds/' + target}", flush=True)
            if not well:
                failed.append(target)
                print("\n".join(said.splitlines()[-40:]), file=sys.stderr)
    if flags.merge:
        for target in chosen:
            merge(built, target)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
