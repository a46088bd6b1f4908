"""Where measurements go: a section each in benchmarks/results.json, and all of them on docs/benchmarks.md."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import equipoise
from equipoise.core.atomic import write

ROOT = Path(__file__).parent.parent
TITLES = {
    "engine": "The engine",
    "solvers": "The solvers",
    "steps": "Every rule",
    "merging": "Merging",
    "transferability": "Transferability",
    "federated": "Federated training",
    "scaling": "Scaling laws",
}
Facts = dict[str, str | int]


def about() -> Facts:
    """Where and with what something is measured."""
    facts: Facts = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "equipoise": equipoise.__version__,
    }
    for package in ("torch", "numpy", "torchjd"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def record(section: str, result: Mapping[str, Any], root: Path = ROOT) -> str:
    """Put the tables of one section beside those of the others, write the page anew, return the section.

    `result` has `about` (facts) and `tables`, each with `title`, `columns`, `rows` and `note`.
    """
    path = root / "benchmarks" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "docs").mkdir(exist_ok=True)
    sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[section] = dict(result)
    write(path, json.dumps(sections, indent=1) + "\n")
    write(root / "docs" / "benchmarks.md", page(sections))
    return section_page(section, result)


def page(sections: Mapping[str, Any]) -> str:
    """All sections as Markdown."""
    parts = [
        "# Benchmarks\n\nRatios of times taken in turns on one thread, written by `make bench`; "
        "`make bench-peers` puts TorchJD beside. A section says where it was measured.\n"
    ]
    known = [name for name in TITLES if name in sections]
    return "\n".join([*parts, *(section_page(name, sections[name]) for name in known)])


def section_page(name: str, result: Mapping[str, Any]) -> str:
    """One section as Markdown."""
    facts = ", ".join(f"{key} {value}" for key, value in result["about"].items())
    parts = [f"## {TITLES[name]}\n", f"{facts}.\n"]
    for table in result["tables"]:
        parts += [
            f"**{table['title']}**\n",
            "| " + " | ".join(map(str, table["columns"])) + " |",
            "|" + " --- |" * len(table["columns"]),
            *("| " + " | ".join(map(str, row)) + " |" for row in table["rows"]),
            f"\n{table['note']}\n",
        ]
    return "\n".join(parts)
