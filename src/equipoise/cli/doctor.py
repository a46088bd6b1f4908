"""`equipoise doctor`: versions, devices, extras and data of this machine, and what is missing."""

import json
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any

import typer

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
INTERNAL = ("all", "dev", "docs", "peers", "test")
"""Extras for developing the project, not for using it."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say what this installation has: versions, devices, extras and data, and what is missing."""
    found = examined()
    typer.echo(json.dumps(found, indent=2) if as_json else page(found))
    if found["broken"]:
        raise typer.Exit(1)


def examined() -> dict[str, Any]:
    """The facts; "broken" names required packages that are absent or do not import."""
    from equipoise import __version__

    base, extras = requirements()
    broken = {name: "" for name, number in sorted(base.items()) if number is None}
    facts: dict[str, Any] = {}
    for fact, find, package, nothing in (("devices", devices, "torch", []), ("data", data, "numpy", {})):
        try:
            facts[fact] = find()
        except (ImportError, OSError) as error:
            facts[fact] = nothing
            broken.setdefault(package, f" (does not import: {' '.join(str(error).split())})")
    return {
        "equipoise": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {key: os.environ[key] for key in THREADS if key in os.environ},
        "memory_gb": memory(),
        "devices": facts["devices"],
        "packages": base,
        "extras": extras,
        "data": facts["data"],
        "broken": [f"{name}{why}" for name, why in broken.items()],
    }


def requirements() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Package -> version, None for one that is absent: those that are required, and those of each extra."""
    base: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    try:
        texts = requires("equipoise") or []
    except PackageNotFoundError:  # run from its source, without having been installed
        return base, extras
    for text in texts:
        found = _REQUIREMENT.match(text)
        if found is None or found[1] == "equipoise" or found[3] in INTERNAL:
            continue
        (base if found[3] is None else extras.setdefault(found[3], {}))[found[1]] = installed(found[1])
    return base, extras


def installed(package: str) -> str | None:
    """The version of a package, from its metadata alone."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> list[str]:
    """What torch can compute on."""
    import torch

    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def memory() -> float | None:
    """Gigabytes of memory, None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def data() -> dict[str, str]:
    """Problem or federation -> where its data are, or that they are missing."""
    from equipoise.problems.data import FILES, FOLDER

    root = os.environ.get(FOLDER)
    found = {}
    for name, (folder, file) in FILES.items():
        path = Path(root, folder, file) if root else None
        if path is not None and path.is_file():
            found[name] = str(path)
        else:
            found[name] = f"missing: {path}" if path else f"missing: ${FOLDER} is not set"
    return {"digits-pairs, digits-clients": "ship with scikit-learn", **found}


def page(found: dict[str, Any]) -> str:
    """The facts as text."""
    lines = [
        f"equipoise {found['equipoise']}, Python {found['python']}, {found['system']}",
        f"{found['cpus']} CPUs, {found['memory_gb']} GB of memory, "
        + ("devices: " + ", ".join(found["devices"]) if found["devices"] else "no device, for want of torch"),
        *(f"{key}={value}" for key, value in found["threads"].items()),
        "",
        "Packages",
    ]
    lines += [f"  {name} {number or 'MISSING'}" for name, number in found["packages"].items()]
    if not found["packages"]:
        lines.append("  equipoise was not installed by pip, which alone knows what it requires")
    lines += ["", "Extras"]
    for extra, packages in found["extras"].items():
        lacking = [name for name, number in packages.items() if number is None]
        told = ", ".join(f"{name} {number}" for name, number in packages.items() if number)
        lines.append(f"  {extra}: {told or 'not installed'}")
        if lacking:
            lines.append(f"    without {', '.join(lacking)}: pip install 'equipoise[{extra}]'")
    lines += ["", "Data"]
    lines += [f"  {name}: {where}" for name, where in found["data"].items()]
    if found["broken"]:
        names = ", ".join(found["broken"])
        lines += ["", f"Required and missing: {names}; pip install --force-reinstall equipoise brings them"]
    return "\n".join(lines)
