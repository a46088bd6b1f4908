"""One federated run in a process of its own; facts as a JSON line.

memory: megabytes that a run of two rounds needed above those before it. here: three rounds of ten clients,
and how many seconds they take once more.
"""

import json
import sys
import time
from pathlib import Path


def anonymous(field: str) -> float:
    """Megabytes that the system counts for this process: VmHWM, the peak, or VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def memory(name: str, clients: int) -> None:
    """What clients cost, beside their examples."""
    import torch
    from benchmarks.federated import LOCAL, build

    from equipoise.federated import FedAvg, federate

    torch.set_num_threads(1)
    held = build(name, clients)
    held.prepare()
    before = anonymous("VmRSS")
    federate(held, FedAvg(), rounds=2, local=LOCAL, evaluate_every=10, test=False)
    tell(megabytes=anonymous("VmHWM") - before)


def here() -> None:
    """In this process."""
    from equipoise.federated import FedAvg, federate
    from equipoise.problems import federation

    took = []
    for _ in range(5):
        began = time.perf_counter()
        federate(federation("digits-clients"), FedAvg(), rounds=3)
        took.append(time.perf_counter() - began)
    tell(first=took[0], warm=min(took[1:]))


def tell(**facts: float) -> None:
    """A line on standard output."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory", name, clients]:
            memory(name, int(clients))
        case ["here"]:
            here()
