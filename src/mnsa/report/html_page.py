"""The HTML skeleton of every report: one file that needs no other file. It works on a phone, on a screen, in dark mode and on paper."""

import base64
from collections.abc import Iterable, Sequence
from html import escape


def format_score(value: float | None) -> str:
    """Three digits, or `none` where there was nothing to score."""
    return "none" if value is None else f"{value:.3f}"


def format_interval(bounds: Sequence[float] | None) -> str:
    """From where to where."""
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d241c; --soft: #545f50; --line: #d5dcd0; --sunk: #f3f6f0;
  --mark: #e4f1e4; --accent: #1f6b3a; }
@media (prefers-color-scheme: dark) { :root { --ground: #12170f; --text: #e8eee4; --soft: #a9b5a2; --line: #39452f;
  --sunk: #1c2418; --mark: #22382a; --accent: #86d69a; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  max-width: 1040px; margin: 0 auto; padding: 1rem 1rem 3rem; background: var(--ground); color: var(--text);
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .6rem 0; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .4rem; padding-top: .6rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.5rem 0 .3rem; }
p { margin: .4rem 0; max-width: 46rem; }
a { color: var(--accent); } .soft, figcaption { color: var(--soft); font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .wide { overflow-x: auto; margin: .6rem 0; }
th.text, td.text { text-align: left; } td.long { min-width: 20rem; }
tr.selected { background: var(--mark); font-weight: 600; }
.pairs td { overflow-wrap: anywhere; }
figure { margin: 1rem 0; min-width: 0; } figure img, figure svg { max-width: 100%; height: auto; display: block; }
figure > img { background: #fff; border-radius: 6px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: .5rem 1.5rem; }
.figures figure { margin: .5rem 0; }
@media (max-width: 600px) { th, td { padding: .25rem .4rem; } }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tiles div { background: var(--sunk); border-radius: 10px; padding: .6rem .8rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.2; } .tiles span { display: block; font-size: .8rem;
  color: var(--soft); }
.leaf { border: 1px solid var(--line); border-radius: 10px; padding: .6rem; margin: .6rem 0; break-inside: avoid; }
.leaf h4 { margin: 0 0 .4rem; font-size: .9rem; font-weight: 600; } .leaf h4 span { font-weight: 400;
  color: var(--soft); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(8.5rem, 23%), 1fr)); gap: .5rem; }
.panels figure { margin: 0; } .panels img { width: 100%; max-width: 22rem; }
.panels figcaption { font-size: .75rem; line-height: 1.3; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .25em 0 .7em; }
.missing { background: var(--sunk); border-left: 4px solid var(--line); padding: .5rem .8rem; }
pre { background: var(--sunk); padding: .8rem; border-radius: 8px; font-size: .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; columns: 20rem; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --ground: #fff; --text: #000; --soft: #444; --line: #bbb; --sunk: #f4f4f4;
    --mark: #e8e8e8; --accent: #000; }
  body { font-size: 10pt; max-width: none; padding: 0; } nav { display: none; } .wide { overflow: visible; }
  h2, h3 { break-after: avoid; } figure, tr, .tiles { break-inside: avoid; } a { text-decoration: none; }
  .tiles div, .key, .missing, pre { print-color-adjust: exact; }
  .figures { grid-template-columns: repeat(2, 1fr); } .panels { grid-template-columns: repeat(4, 1fr); }
  @page { margin: 1.6cm; }
}
"""


def render_page(title: str, body: Iterable[str]) -> str:
    """A whole page. title: plain text; body: elements."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def data_uri(data: bytes, kind: str) -> str:
    """A file's bytes as the address of themselves. kind: as in `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def image_figure(data: bytes, kind: str, caption: str, *, alt: str = "") -> str:
    """A picture with its caption below. alt: what to say to those who can't see it; else the caption."""
    text = escape(caption)
    image = f'<img alt="{escape(alt) or text}" src="{data_uri(data, kind)}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def svg_figure(svg: str, caption: str) -> str:
    """A drawing with its caption below, which is also what those hear who can't see it."""
    text = escape(caption)
    return f'<figure role="img" aria-label="{text}">{svg}<figcaption>{text}</figcaption></figure>'


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: Iterable[int] = (0,)) -> str:
    """A table of plain text. text_columns: those that are words, not numbers."""
    words = set(text_columns)
    titles = "".join(f"<th{_cell_class(n, words)}>{escape(name)}</th>" for n, name in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{_cell_class(n, words)}>{escape(cell)}</td>" for n, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def missing_note(what: str, command: str) -> str:
    """Say that a part isn't there, and which command makes it."""
    return f'<p class="missing">{escape(what)} <code>{escape(command)}</code></p>'


def _cell_class(number: int, words: set[int]) -> str:
    return ' class="text"' if number in words else ""
