"""The gallery: each example with its picture, the sentence that was learnt, and its command."""

import ast
from pathlib import Path

from docs.pages import ROOT, plain_text

PICTURES = ROOT / "docs" / "images" / "examples"


def examples() -> list[Path]:
    """Every example, by name."""
    return [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith("_")]


def page() -> str:
    """The whole gallery."""
    lines = [
        "# Gallery\n",
        "Each is one file of `examples/`, on real data, under a minute on two cores; `make test-examples`"
        " runs them all. Copy one and change it.\n",
    ]
    for path in examples():
        title, _, rest = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition(
            "\n"
        )
        story = [part for part in rest.strip().split("\n\n") if not part.startswith("    ")]
        lines += [f"## {plain_text(title)}\n", f"{plain_text(story[0])}\n" if story else ""]
        picture, sentence = (PICTURES / f"{path.stem}.{ending}" for ending in ("svg", "txt"))
        if picture.is_file():
            lines.append(f"![{plain_text(title)}](images/examples/{picture.name})\n")
        if sentence.is_file():
            lines.append(f"**{plain_text(sentence.read_text(encoding='utf-8').strip())}**\n")
        lines.append(f"```console\n$ python examples/{path.name}\n```\n")
    return "\n".join(lines)
