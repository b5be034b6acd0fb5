"""What a check found, as tables for a terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from mnsa.data.check.run import Findings
from mnsa.data.check.summary import Summary
from mnsa.data.faults import Fault

_SHOWN_PER_KIND, _SHOWN_CLASSES = 10, 30


def fault_table(findings: Findings) -> Table:
    """One row a fault, errors first; of many of a kind ten are shown."""
    table = Table(title=_plain(f"{findings.folder}: faults"), title_justify="left", show_lines=True)
    for name in ("", "fault", "file"):
        table.add_column(name, overflow="fold")
    table.add_column("what is wrong, and what to do", ratio=1, overflow="fold")
    shown: Counter[str] = Counter()
    total = Counter(fault.kind for fault in findings.faults)
    for fault in findings.faults:
        shown[fault.kind] += 1
        if shown[fault.kind] <= _SHOWN_PER_KIND:
            table.add_row(*_cells(fault))
        elif shown[fault.kind] == total[fault.kind]:
            rest = f"... and {total[fault.kind] - _SHOWN_PER_KIND} more like these; --json lists all"
            table.add_row(_severity(fault), fault.kind, rest, "")
    return table


def summary_tables(summary: Summary) -> Iterator[Table]:
    """Images per class and split, then sizes, foreground and scale."""
    counts = Table(title="images", title_justify="left")
    for name in ("class", *summary["splits"]):
        counts.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for number, (name, splits) in enumerate(summary["classes"].items()):
        if number < _SHOWN_CLASSES:
            counts.add_row(_plain(name), *map(str, splits.values()))
    if (more := len(summary["classes"]) - _SHOWN_CLASSES) > 0:
        counts.add_row(f"... and {more} more")
    counts.add_row("all", *map(str, summary["splits"].values()), style="bold")
    yield counts
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, text in _facts(summary).items():
        facts.add_row(name, _plain(text))
    yield facts


def _facts(summary: Summary) -> dict[str, str]:
    facts = {"images": f"{summary['images']}, of which {summary['masks']} with a mask; {summary['groups']} groups"}
    if size := summary["size"]:
        three = ", ".join(f"{name} {size[name][0]} x {size[name][1]}" for name in ("smallest", "median", "largest"))
        facts["size in pixels"] = f"{three}; {size['different']} different"
    if shares := summary["foreground"]:
        facts["share of the mask"] = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    facts["scale"] = _scale(summary["px_per_mm"], summary["images"])
    return facts


def _scale(scale: Mapping[str, Any] | None, images: int) -> str:
    if not scale:
        return "not known"
    three = ", ".join(f"{name} {scale[name]:.4g}" for name in ("smallest", "median", "largest"))
    return f"{three} px/mm; known of {scale['rows']} of {images} images"


def _cells(fault: Fault) -> tuple[Text, str, Text, Text]:
    line = fault.where.rpartition(", ")[2]
    place = f"{line}: " if line.startswith("line ") else ""
    return _severity(fault), fault.kind, _plain(fault.file), _plain(f"{place}{fault.reason}. {fault.fix}.")


def _severity(fault: Fault) -> Text:
    return Text(fault.severity, style="bold red" if fault.severity == "error" else "yellow")


def _plain(text: str) -> Text:
    """Show a name as it is, without what a terminal might take for a command."""
    return Text("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))
