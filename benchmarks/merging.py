"""What a merge costs beside mergekit's: CPU seconds and memory of whole processes, bytes beside a file copy.

Three bfloat16 models of 220 million parameters, random around a base, are written first. Programs take turns,
each in a fresh process with two threads. mergekit stands beside where its interpreter is named.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.record import about, record
from torch import Tensor

from equipoise.core.tensorfile import write_tensors

METHODS = ("linear", "ties")
GOALS = {"linear": 1.5, "ties": 5.0}
WIDTH, INNER, TOKENS = 1024, 2816, 32000
RUN = Path(__file__).with_name("onemerge.py")
Facts = dict[str, float]


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a language model of Llama's form."""
    yield "model.embed_tokens.weight", (TOKENS, WIDTH)
    for i in range(layers):
        for name in "qkvo":
            yield f"model.layers.{i}.self_attn.{name}_proj.weight", (WIDTH, WIDTH)
        yield f"model.layers.{i}.mlp.gate_proj.weight", (INNER, WIDTH)
        yield f"model.layers.{i}.mlp.up_proj.weight", (INNER, WIDTH)
        yield f"model.layers.{i}.mlp.down_proj.weight", (WIDTH, INNER)
        yield f"model.layers.{i}.input_layernorm.weight", (WIDTH,)
        yield f"model.layers.{i}.post_attention_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (TOKENS, WIDTH)


def write_models(folder: Path, layers: int) -> int:
    """The base and three models around it; the parameters of each."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_attention_heads": 16,
        "num_hidden_layers": layers,
        "vocab_size": TOKENS,
        "torch_dtype": "bfloat16",
    }

    def tensors(model: int | None) -> Iterator[tuple[str, Tensor]]:
        for i, (name, shape) in enumerate(shapes(layers)):
            values = torch.randn(shape, generator=torch.Generator().manual_seed(i)) / 50
            if model is not None:
                drawn = torch.Generator().manual_seed(10_000 * (model + 1) + i)
                values += torch.randn(shape, generator=drawn) / 500
            yield name, values.bfloat16()

    for model in (None, 0, 1, 2):
        place = folder / ("base" if model is None else f"model{model}")
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        write_tensors(place / "model.safetensors", tensors(model), {"format": "pt"})
    return sum(int(torch.Size(shape).numel()) for _, shape in shapes(layers))


def measured(program: str, interpreter: str, folder: Path, method: str, threads: int) -> Facts:
    """One merge in a fresh process: seconds, and megabytes of anonymous memory above those after imports."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    order = [interpreter, str(RUN), program, str(folder), method, str(threads)]
    quiet = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        order, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **quiet}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    begun = json.loads(process.stdout.readline() or "{}")
    level = peak = anonymous(process.pid)
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.003)
    said, wrong = process.communicate()
    if process.returncode or not begun:
        raise RuntimeError(f"{program} failed at {method}:\n{wrong[-2000:]}")
    ended = json.loads(said.splitlines()[-1])
    return {
        "start": begun["cpu"],
        "cpu": ended["cpu"] - begun["cpu"],
        "wall": ended["at"] - begun["at"],
        "memory": (peak - level) / 1e6,
    }


def anonymous(process: int) -> int:
    """Bytes of resident anonymous memory of a process; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0


def small(folder: Path) -> float:
    """CPU seconds of a whole process that merges two models of four numbers, from the command line."""
    for name in ("left", "right"):
        write_tensors(folder / f"{name}.safetensors", [("w", torch.full((4,), float(len(name))))])
    shutil.rmtree(folder / "small", ignore_errors=True)
    program = str(Path(sys.executable).with_name("equipoise"))
    order = [program, "merge", "left.safetensors", "right.safetensors", "--method", "average", "-o", "small"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(order, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def copied(folder: Path) -> float:
    """Seconds of a plain copy of one model, until it is on disk."""
    target = folder / "copy"
    began = time.monotonic()
    shutil.copyfile(folder / "model0" / "model.safetensors", target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    taken = time.monotonic() - began
    target.unlink()
    return taken


def table(
    found: Mapping[tuple[str, str], list[Facts]], copies: list[float], smalls: list[float], size: int
) -> dict[str, Any]:
    """A row for each method and program, and their ratios."""
    rows = []
    for method in METHODS:
        both = {who: middle(runs) for (who, how), runs in found.items() if how == method}
        files = 4 if method == "linear" else 5
        for who, facts in both.items():
            rows.append(
                [
                    f"{method}, {who}",
                    f"{facts['start']:.2f}",
                    f"{facts['cpu']:.2f}",
                    f"{facts['wall']:.2f}",
                    f"{facts['memory']:.0f}",
                    f"{files * size / facts['wall'] / 1e6:.0f}",
                ]
            )
        if len(both) == 2:
            ours, theirs = both["equipoise"], both["mergekit"]
            over = {key: theirs[key] / max(ours[key], 1e-9) for key in ("start", "cpu", "wall", "memory")}
            goal = f"{over['cpu']:.1f} [>= {GOALS[method]:g}]"
            memory = f"{over['memory']:.1f} [>= 4]"
            rows.append([f"{method}, ratio", f"{over['start']:.1f}", goal, f"{over['wall']:.1f}", memory, ""])
    rate = 2 * size / median(copies) / 1e6
    rows.append(["copy of one file", "", "", f"{median(copies):.2f}", "", f"{rate:.0f}"])
    millions = f"{size / 2e6:.0f} million"
    return {
        "title": f"Three bfloat16 models of {millions} parameters, two threads, a fresh process each",
        "columns": [
            "",
            "CPU s to start",
            "CPU s to merge",
            "wall s to merge",
            "peak anonymous MB",
            "MB read and written a wall second",
        ],
        "rows": rows,
        "note": "Medians of turns; CPU seconds are those of all threads, memory is resident and anonymous, "
        "above the level after imports. Goals in square brackets. TIES with mergekit's meaning, density 0.5. "
        "The merged model and the copy are on disk when time stops; mergekit does not wait for that. "
        f"The command line needs {median(smalls):.2f} CPU seconds in all for two models of four numbers.",
    }


def middle(runs: list[Facts]) -> Facts:
    """The median of each figure."""
    return {key: median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    """Write models, measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=os.environ.get("EQUIPOISE_MERGEKIT"), help="mergekit's Python")
    parser.add_argument("--turns", type=int, default=3, help="merges of each kind")
    parser.add_argument("--layers", type=int, default=12, help="12 layers make 220 million parameters")
    parser.add_argument("--folder", type=Path, help="where files go; a temporary folder by default")
    parser.add_argument("--print", action="store_true", dest="only", help="do not record")
    options = parser.parse_args()
    programs = {"equipoise": sys.executable, **({"mergekit": options.peer} if options.peer else {})}
    found: dict[tuple[str, str], list[Facts]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = 2 * write_models(folder, options.layers)
        copies, smalls = [], []
        for _ in range(options.turns):
            smalls.append(small(folder))
            copies.append(copied(folder))
            for method in METHODS:
                for who, interpreter in programs.items():
                    facts = measured(who, interpreter, folder, method, 2)
                    found.setdefault((who, method), []).append(facts)
                    print(
                        who, method, {key: round(value, 2) for key, value in facts.items()}, file=sys.stderr
                    )
    result = table(found, copies, smalls, size)
    facts = {**about(), "threads": 2}
    if options.peer:
        order = "from importlib.metadata import version; print(version('mergekit'))"
        facts["mergekit"] = subprocess.check_output([options.peer, "-c", order], text=True).strip()
    if options.only:
        print(json.dumps(result, indent=1))
    else:
        print(record("merging", {"about": facts, "tables": [result]}))


if __name__ == "__main__":
    main()
