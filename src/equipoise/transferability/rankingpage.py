"""The page of a ranking: which model, how sure, and everything that speaks for or against it."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from equipoise.core import palette
from equipoise.core.page import TABLES, document, section
from equipoise.transferability.rankingfigures import figures
from equipoise.transferability.rankingtext import advice, column_rows, grounds, model_rows, remarks

if TYPE_CHECKING:
    from equipoise.transferability.ranking import Ranking

STYLE = f"""{TABLES}.words {{ text-align: left; }}
tr.leader td {{ color: {palette.LEADER}; font-weight: 600; }}
"""


def page(found: "Ranking") -> str:
    """The whole page as text."""
    facts = f"{len(found.names)} models, {found.samples or 'unlabelled'} samples, decided by {found.by}"
    body = [
        f'<p class="kicker">Which model to start from: {escape(facts)}</p>',
        f"<h1><strong>{escape(advice(found))}</strong>\n{escape(grounds(found))}</h1>",
        *(f"<p>{escape(words)}</p>" for words in remarks(found)),
    ]
    body += [section(*figure) for figure in figures(found)]
    body.append(f"<h2>Every model</h2>\n{_table(model_rows(found), (1,), 1)}")
    body.append(f"<h2>Every column</h2>\n{_table(column_rows(found), (0, 1, 2), None)}")
    return document(advice(found), body, STYLE)


def _table(rows: Sequence[Sequence[str]], words: tuple[int, ...], leader: int | None) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=words' if i in words else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells(rows[0], 'th')}</tr></thead>"
    body = "\n".join(
        f"<tr{' class=leader' if i == leader else ''}>{cells(row, 'td')}</tr>"
        for i, row in enumerate(rows[1:], 1)
    )
    return f'<div class="box"><table>{head}<tbody>\n{body}\n</tbody></table></div>'
