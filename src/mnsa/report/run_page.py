"""A run as one HTML file that needs nothing else. What isn't there names the command that makes it."""

import re
from collections.abc import Iterator
from html import escape

from mnsa.errors import RunError
from mnsa.report.canvas import inline_svg
from mnsa.report.page import drawing, missing, page, table
from mnsa.report.run_figures import losses, scores
from mnsa.report.run_record import RunRecord, read_run
from mnsa.report.split_sections import calibration_section, split_sections
from mnsa.report.summary import summary
from mnsa.run_folder import RunFolder, write_text

_ARRAY = re.compile(r"\[\n([^\[\]]*)\]")  # innermost ones, an item on each line


def write_run_report(run: RunFolder) -> None:
    """Write report.html into the run's folder, over an earlier one. Raises: MnsaError naming what is damaged."""
    text = run_page(read_run(run))
    try:
        write_text(run.report_file, text)
    except OSError as error:
        raise RunError(f"{run.report_file} can't be written: {error.strerror}. Mend that and report again.") from None


def run_page(run: RunRecord) -> str:
    """The page as text."""
    sections = {
        "Summary": list(summary(run)),
        "Learning curves": list(_curves(run)),
        **{f"Split {split.title}": list(split_sections(run, split)) for split in run.evaluated},
        "Sure or not": list(calibration_section(run)),
        "Config": [f"<pre>{escape(_ARRAY.sub(_on_one_line, run.config.strip()))}</pre>"],
        "Provenance": [_provenance(run)],
    }
    links = "".join(f'<a href="#part{n}">{escape(title)}</a>' for n, title in enumerate(sections))
    body = [f"<nav>{links}</nav>"]
    for number, (title, parts) in enumerate(sections.items()):
        body += [f'<h2 id="part{number}">{escape(title)}</h2>', *parts]
    return page(f"Run {run.name}", body)


def _curves(run: RunRecord) -> Iterator[str]:
    if not run.epochs:
        came_from = run.provenance.get("checkpoint")
        yield (
            f"<p>No epochs: the network was imported from {escape(str(came_from))}.</p>"
            if came_from
            else missing("No epoch is finished yet.", f"mnsa train --resume {run.run.path}")
        )
        return
    yield '<div class="figures">'
    yield drawing(
        inline_svg("losses", lambda: losses(run.epochs)), "Training loss and its terms, on a logarithmic scale."
    )
    yield drawing(
        inline_svg("scores", lambda: scores(run.epochs)),
        "Validation scores at the size that the network is shown. Dotted: the epoch that was kept, the best by score.",
    )
    yield "</div>"


def _provenance(run: RunRecord) -> str:
    facts = {name: value for name, value in run.provenance.items() if name != "versions"}
    facts["command"] = " ".join(str(word) for word in run.provenance.get("command", []))
    versions = {f"version of {name}": value for name, value in dict(run.provenance.get("versions", {})).items()}
    rows = [(name.replace("_", " "), str(value)) for name, value in {**facts, **versions}.items()]
    return table(("what", "value"), rows, text_columns=(0, 1)).replace("<table>", '<table class="pairs">')


def _on_one_line(array: re.Match[str]) -> str:
    return f"[{' '.join(item.strip() for item in array[1].splitlines()).strip().rstrip(',')}]"
