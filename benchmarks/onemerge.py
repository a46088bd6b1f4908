"""One merge in a process of its own, by the program whose interpreter runs this file; facts as JSON lines.

The first line comes after the imports, the second when the merged model is on disk.
"""

import json
import resource
import sys
import time


def seconds() -> float:
    """CPU seconds of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(**facts: object) -> None:
    """A line on standard output."""
    print(json.dumps({"cpu": seconds(), "at": time.monotonic(), **facts}), flush=True)


def ours(folder: str, method: str, threads: int) -> None:
    """By this project."""
    import torch

    torch.set_num_threads(threads)
    from equipoise.merging import TIES, Average, merge

    rule = Average() if method == "linear" else TIES(preset="mergekit", density=0.5)
    tell()
    models = [f"{folder}/model{i}" for i in range(3)]
    merge(models, f"{folder}/base", method=rule, out=f"{folder}/out", threads=threads)


def peers(folder: str, method: str, threads: int) -> None:
    """By mergekit, with what its command line does."""
    import torch

    torch.set_num_threads(threads)
    from mergekit.config import MergeConfiguration  # pyright: ignore[reportMissingImports]
    from mergekit.merge import run_merge  # pyright: ignore[reportMissingImports]
    from mergekit.options import MergeOptions  # pyright: ignore[reportMissingImports]

    tell()
    parameters = {"weight": 1.0, **({} if method == "linear" else {"density": 0.5})}
    models = [{"model": f"{folder}/model{i}", "parameters": parameters} for i in range(3)]
    told = {"merge_method": method, "models": models, "dtype": "bfloat16"}
    if method == "ties":
        told |= {"base_model": f"{folder}/base", "parameters": {"normalize": True}}
    options = MergeOptions(quiet=True, copy_tokenizer=False)
    run_merge(MergeConfiguration.model_validate(told), f"{folder}/out", options=options)


if __name__ == "__main__":
    who, where, how, count = sys.argv[1:]
    (ours if who == "equipoise" else peers)(where, how, int(count))
    tell()
