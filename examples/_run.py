"""Run the examples, two at a time, and say how long each took.

    python examples/_run.py                # all of them
    python examples/_run.py --half         # every other one, by the parity of the number of commits

An example passes when it ends with exit 0, and leaves a picture and a sentence. What takes more than a minute
on two cores is too long for one: 120 s of processor time is the limit.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
LIMIT = 120


def examples() -> list[Path]:
    """Every example, by name."""
    return [path for path in sorted(FOLDER.glob("*.py")) if not path.name.startswith("_")]


def parity() -> int:
    """0 or 1, another one with each commit."""
    count = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    return int(count.stdout) % 2


def limited() -> None:
    """Called in the child: the system stops it beyond the limit."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))


def run(path: Path, out: Path) -> tuple[str, str]:
    """What is to be said of an example, and what is wrong with it, "" for nothing."""
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, path, "--out", out],
        env={"OMP_NUM_THREADS": "1"} | os.environ,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    took = f"{path.stem}: {time.perf_counter() - began:.0f} s"
    if ended.returncode:
        return took, f"exit {ended.returncode}\n{ended.stderr[-3000:]}"
    missing = [name for ending in ("svg", "txt") if not (out / (name := f"{path.stem}.{ending}")).is_file()]
    if missing:
        return took, f"left no {' and no '.join(missing)}"
    return f"{took}. {(out / f'{path.stem}.txt').read_text(encoding='utf-8').strip()}", ""


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--half", action="store_true", help="every other example")
    options.add_argument("names", nargs="*", help="examples to run, all by default")
    asked = options.parse_args()
    chosen = [path for path in examples() if not asked.names or path.stem in asked.names]
    if asked.half:
        chosen = chosen[parity() :: 2]
    if not chosen:
        options.error(f"no example is called {', '.join(asked.names)}")
    failed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for path, (said, wrong) in zip(
            chosen, pool.map(lambda path: run(path, Path(folder)), chosen), strict=True
        ):
            print(said, *([f"FAILED: {wrong}"] if wrong else []), sep="\n  ", flush=True)
            failed += [path.stem] if wrong else []
    print(f"{len(chosen) - len(failed)} of {len(chosen)} examples passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
