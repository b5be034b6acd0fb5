"""`mnsa check`: validate a data set and list its findings."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnsa.cli.shared import (
    DatasetArgument,
    JsonOption,
    QuietOption,
    VerboseOption,
    console,
    image_progress,
    print_result,
    print_warning,
    quiet_logger,
    set_output,
)
from mnsa.errors import DataError
from mnsa.io import write_json

if TYPE_CHECKING:
    from mnsa.data.findings import Finding
    from mnsa.data.validation.validate import Summary, ValidationReport

_MAX_SHOWN_PER_KIND, _MAX_SHOWN_CLASSES = 10, 30


def check(
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option("--out", help="New JSON file for all findings and the summary.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="New PNG with thumbnails of the images and the outlines of their masks.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes. It does not change the findings.")] = 2,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Validate a data set and list all findings. Exit code 0: no findings, 1: warnings only, 2: errors.

    Example: `mnsa check leaves --out findings.json --contact-sheet leaves.png`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    for file in (out, contact_sheet):
        if file and (file.exists() or not file.absolute().parent.is_dir()):
            raise DataError(f"{file} exists already, or its folder doesn't exist. Choose another file.")
    from mnsa.data.validation.contact_sheet import write_contact_sheet
    from mnsa.data.validation.validate import validate_dataset

    with image_progress() as show, quiet_logger("mnsa.data.image_formats"):  # what it says appears as findings
        report = validate_dataset(dataset, workers=workers, progress=lambda done, total: show(done, total, done))
    if report.findings:
        console.print(findings_table(report))
    if report.summary:
        for table in summary_tables(report.summary):
            console.print(table)
    counts = f"{report.errors} errors, {len(report.findings) - report.errors} warnings: {dataset}"
    (print_warning if report.findings else console.print)(counts)
    print_result(report.to_dict())
    if out:
        write_json(out, report.to_dict())
    if contact_sheet and report.manifest:
        write_contact_sheet(report.manifest, contact_sheet)
    raise typer.Exit(report.exit_code)


def findings_table(report: "ValidationReport") -> Table:
    """Return the findings, errors first; at most ten of one kind."""
    table = Table(title=_plain_text(f"{report.folder}: findings"), title_justify="left", show_lines=True)
    for name in ("", "finding", "file"):
        table.add_column(name, overflow="fold")
    table.add_column("problem and fix", ratio=1, overflow="fold")
    shown: Counter[str] = Counter()
    total = Counter(finding.kind for finding in report.findings)
    for finding in report.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= _MAX_SHOWN_PER_KIND:
            table.add_row(*_finding_cells(finding))
        elif shown[finding.kind] == total[finding.kind]:
            rest = f"... and {total[finding.kind] - _MAX_SHOWN_PER_KIND} more of this kind. --out writes all"
            table.add_row(_severity_text(finding), finding.kind, rest, "")
    return table


def summary_tables(summary: "Summary") -> Iterator[Table]:
    """Yield the image counts per class and split, then sizes, mask areas and scale."""
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
    lines = Table(show_header=False)
    lines.add_column()
    lines.add_column(overflow="fold")
    for name, text in _summary_lines(summary).items():
        lines.add_row(name, _plain_text(text))
    yield lines


def _summary_lines(summary: "Summary") -> dict[str, str]:
    lines = {"images": f"{summary['images']}, of which {summary['masks']} with a mask; {summary['groups']} groups"}
    if size := summary["size"]:
        sizes = ", ".join(f"{name} {size[name][0]} x {size[name][1]}" for name in ("smallest", "median", "largest"))
        lines["size in pixels"] = f"{sizes}; {size['different']} different"
    if fractions := summary["foreground"]:
        lines["mask area"] = ", ".join(f"{name} {fraction:.2%}" for name, fraction in fractions.items())
    lines["scale"] = _scale_text(summary["px_per_mm"], summary["images"])
    return lines


def _scale_text(scale: Mapping[str, Any] | None, images: int) -> str:
    if not scale:
        return "unknown"
    values = ", ".join(f"{name} {scale[name]:.4g}" for name in ("smallest", "median", "largest"))
    return f"{values} px/mm; known for {scale['rows']} of {images} images"


def _finding_cells(finding: "Finding") -> tuple[Text, str, Text, Text]:
    line = finding.location.rpartition(", ")[2]
    place = f"{line}: " if line.startswith("line ") else ""
    return (
        _severity_text(finding),
        finding.kind,
        _plain_text(finding.file),
        _plain_text(f"{place}{finding.reason}. {finding.fix}."),
    )


def _severity_text(finding: "Finding") -> Text:
    return Text(finding.severity, style="bold red" if finding.severity == "error" else "yellow")


def _plain_text(text: str) -> Text:
    """Escape control characters, so that a file name can't send commands to the terminal."""
    return Text("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))
