"""Adds the generated pages to the site, and fails where a public name or a result has none."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from docs import deciding, gallery, methods, pages  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put reference and method pages where the navigation says so."""
    addresses = [pages.reference_address(package) for package in pages.public()]
    rooms: dict[str, list[str]] = {}
    for room, card in methods.every():
        rooms.setdefault(room, []).append(pages.method_address(room, card))
    found = {
        "Reference": addresses,
        "Methods": ["rules.md", *({room: sorted(those)} for room, those in rooms.items())],
    }
    config.nav = [
        {name: found[name]} if isinstance(entry, dict) and (name := next(iter(entry))) in found else entry
        for entry in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that exist only in the site."""
    elsewhere = methods.held()
    made = {
        pages.reference_address(package): pages.reference(package, elsewhere) for package in pages.public()
    }
    made |= {pages.method_address(room, card): methods.page(room, card) for room, card in methods.every()}
    made |= {
        "rules.md": pages.rules(),
        "papers.md": pages.papers(),
        "which-rule.md": deciding.page(),
        "gallery.md": gallery.page(),
    }
    for address, content in made.items():
        files.append(File.generated(config, address, content=content))
    if (pages.ROOT / "docs" / "evidence.md").read_text(encoding="utf-8") != pages.evidence():
        raise PluginError(
            "docs/evidence.md is not what evidence/results says; run python docs/pages.py evidence"
        )
    return files


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Every public name stands on the page of its method or of its package, with a docstring."""
    elsewhere = methods.held()
    for package, names in pages.public().items():
        for name, where in names.items():
            held = elsewhere.get(where, pages.reference_address(package))
            if page.file.src_uri == held and f'id="{where}"' not in html:
                raise PluginError(f"no page for {name} of {package}: it needs a docstring")
