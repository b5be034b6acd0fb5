"""The report of a validation as tables for a terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from mnsa.data.findings import Finding
from mnsa.data.validation.summary import Summary
from mnsa.data.validation.validate import ValidationReport

_MAX_SHOWN_PER_KIND, _MAX_SHOWN_CLASSES = 10, 30


def findings_table(report: ValidationReport) -> Table:
    """One row a finding, errors first; of many of a kind ten are shown."""
    table = Table(title=_plain_text(f"{report.folder}: findings"), title_justify="left", show_lines=True)
    for name in ("", "finding", "file"):
        table.add_column(name, overflow="fold")
    table.add_column("what is wrong, and what to do", ratio=1, overflow="fold")
    shown: Counter[str] = Counter()
    total = Counter(finding.kind for finding in report.findings)
    for finding in report.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= _MAX_SHOWN_PER_KIND:
            table.add_row(*_finding_cells(finding))
        elif shown[finding.kind] == total[finding.kind]:
            rest = f"... and {total[finding.kind] - _MAX_SHOWN_PER_KIND} more like these; --json lists all"
            table.add_row(_severity_text(finding), finding.kind, rest, "")
    return table


def summary_tables(summary: Summary) -> Iterator[Table]:
    """Images per class and split, then sizes, foreground and scale."""
    counts = Table(title="images", title_justify="left")
    for name in ("class", *summary["splits"]):
        counts.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for number, (name, splits) in enumerate(summary["classes"].items()):
        if number < _MAX_SHOWN_CLASSES:
            counts.add_row(_plain_text(name), *map(str, splits.values()))
    if (more := len(summary["classes"]) - _MAX_SHOWN_CLASSES) > 0:
        counts.add_row(f"... and {more} more")
    counts.add_row("all", *map(str, summary["splits"].values()), style="bold")
    yield counts
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, text in _summary_lines(summary).items():
        facts.add_row(name, _plain_text(text))
    yield facts


def _summary_lines(summary: Summary) -> dict[str, str]:
    facts = {"images": f"{summary['images']}, of which {summary['masks']} with a mask; {summary['groups']} groups"}
    if size := summary["size"]:
        three = ", ".join(f"{name} {size[name][0]} x {size[name][1]}" for name in ("smallest", "median", "largest"))
        facts["size in pixels"] = f"{three}; {size['different']} different"
    if shares := summary["foreground"]:
        facts["share of the mask"] = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    facts["scale"] = _scale_text(summary["px_per_mm"], summary["images"])
    return facts


def _scale_text(scale: Mapping[str, Any] | None, images: int) -> str:
    if not scale:
        return "not known"
    three = ", ".join(f"{name} {scale[name]:.4g}" for name in ("smallest", "median", "largest"))
    return f"{three} px/mm; known of {scale['rows']} of {images} images"


def _finding_cells(finding: Finding) -> tuple[Text, str, Text, Text]:
    line = finding.where.rpartition(", ")[2]
    place = f"{line}: " if line.startswith("line ") else ""
    return (
        _severity_text(finding),
        finding.kind,
        _plain_text(finding.file),
        _plain_text(f"{place}{finding.reason}. {finding.fix}."),
    )


def _severity_text(finding: Finding) -> Text:
    return Text(finding.severity, style="bold red" if finding.severity == "error" else "yellow")


def _plain_text(text: str) -> Text:
    """Show a name as it is, without what a terminal might take for a command."""
    return Text("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))
