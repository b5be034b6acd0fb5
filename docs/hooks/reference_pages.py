"""Pages of the site that are made at build time: the command line, the config, and files from the project's root.

`mkdocs.yml` names this file as a hook; mkdocs calls `on_files` and `on_page_markdown`.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_type_hints

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import mnsa.cli  # noqa: F401  # registers every verb
from mnsa.cli.app import app
from mnsa.config import Config

ROOT = Path(__file__).parents[2]

# Files outside docs/ that are pages of the site: page -> file.
ROOT_PAGES = {
    "background/benchmarks.md": "benchmarks/RESULTS.md",
    "background/security.md": "SECURITY.md",
    "background/contributing.md": "CONTRIBUTING.md",
    "background/changelog.md": "CHANGELOG.md",
}

CONFIG_INTRODUCTION = """# Config

A config is a TOML file. `mnsa train` and `mnsa search` read it; the folder `configs` of the project has ready ones.

- `base = "other.toml"` at the top: the file then holds only the differences. The path is relative to the file.
- `--set section.key=value` on the command line replaces one value. A stage has its name: `--set stages.joint.epochs=3`.
- An unknown key is an error. All keys but those of a stage have a default.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {"reference/cli.md": cli_page(), "reference/config.md": config_page()}
    pages |= {page: root_page(page) for page in ROOT_PAGES}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to files of the project's root to their pages; the links themselves also work in the repository."""
    folder = PurePosixPath(page.file.src_uri).parent
    for target, source in ROOT_PAGES.items():
        link = posixpath.relpath(source, f"docs/{folder}")
        markdown = markdown.replace(f"]({link}", f"]({posixpath.relpath(target, folder)}")
    return markdown


def cli_page() -> str:
    """Describe every command, its arguments and its options, as the command line's own help does."""
    lines = ["# Command line", "", "`mnsa VERB --help` shows the same in the terminal.", ""]
    for name, command in _commands(typer.main.get_command(app), "mnsa"):
        lines += _command_lines(name, command)
    return "\n".join(lines)


def config_page() -> str:
    """Describe every section and every key of a config."""
    lines = [CONFIG_INTRODUCTION]
    for name, field in Config.model_fields.items():
        lines += [f"## {name}", "", f"{field.description}", ""]
        lines += _table(("key", "values", "default", "meaning"), map(_field_row, _section(field).model_fields.items()))
    return "\n".join(lines)


def root_page(page: str) -> str:
    """Read a file of the project's root as a page. Links to pages stay links; links to other files become code."""
    source = ROOT / ROOT_PAGES[page]

    def to_page(match: re.Match[str]) -> str:
        text, target, anchor = match["text"], match["target"], match["anchor"] or ""
        file = (source.parent / target).resolve()
        by_file = {(ROOT / name).resolve(): name_of_page for name_of_page, name in ROOT_PAGES.items()}
        if file in by_file:
            return f"[{text}](../{by_file[file]}{anchor})"
        if file.is_relative_to(ROOT / "docs"):
            return f"[{text}](../{file.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        return text

    link = r"\[(?P<text>[^\]]+)\]\((?!https?:)(?P<target>[^)#]+)(?P<anchor>#[^)]*)?\)"
    return re.sub(link, to_page, source.read_text(encoding="utf-8"))


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name. Typer has its own copy of click, without public types."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    else:
        for child in children.values():
            yield from _commands(child, f"{name} {child.name}")


def _command_lines(name: str, command: Any) -> list[str]:
    arguments = [parameter.name.upper() for parameter in command.params if parameter.param_type_name == "argument"]
    hints = get_type_hints(command.callback)
    rows = [_parameter_row(parameter, hints.get(parameter.name)) for parameter in command.params]
    usage = ["```sh", " ".join([name, *arguments, "[OPTIONS]"]), "```", ""]
    table = _table(("argument or option", "values", "default", "meaning"), rows)
    return [f"## {name}", "", command.help or "", "", *usage, *table]


def _parameter_row(parameter: Any, annotation: Any) -> tuple[str, str, str, str]:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.name.upper()]
    shown = parameter.default not in (None, False, ()) and not callable(parameter.default)
    default = "required" if parameter.required else f"`{parameter.default}`" if shown else ""
    return ", ".join(f"`{name}`" for name in names), _choices(annotation), default, parameter.help or ""


def _choices(annotation: Any) -> str:
    """The values of the Literal or the enumeration in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    parts = get_args(annotation)
    if parts and all(isinstance(part, str) for part in parts):
        return ", ".join(f"`{part}`" for part in parts)
    return next(filter(None, map(_choices, parts)), "")


def _section(field: FieldInfo) -> type[BaseModel]:
    """The model of a section; `stages` is a tuple of such models."""
    annotation: Any = field.annotation
    section: type[BaseModel] = annotation if isinstance(annotation, type) else get_args(annotation)[0]
    return section


def _field_row(item: tuple[str, FieldInfo]) -> tuple[str, str, str, str]:
    name, field = item
    default = "required" if field.is_required() else f"`{_toml(field.default)}`"
    return f"`{name}`", _values(field.annotation, field.metadata), default, field.description or ""


def _values(annotation: Any, metadata: list[Any]) -> str:
    """The values that a field may have, in words."""
    options = [part for part in get_args(annotation) if isinstance(part, str)]
    if options:
        return ", ".join(f"`{option}`" for option in options)
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    if annotation in kinds:
        return " ".join([kinds[annotation], *_bounds(metadata)])
    arguments = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if getattr(annotation, "__origin__", None) is dict:
        return f"table, name = {_values(*_plain(arguments[-1]))}"
    if getattr(annotation, "__origin__", None) is tuple:
        inner = _values(*_plain(arguments[0]))
        return f"list of {inner}" if Ellipsis in get_args(annotation) else f"{len(arguments)} of: {inner}"
    return " or ".join(_values(*_plain(part)) for part in arguments)


def _plain(annotation: Any) -> tuple[Any, list[Any]]:
    """Split an `Annotated` into its type and the constraints of its fields."""
    constraints = [item for field in getattr(annotation, "__metadata__", ()) for item in field.metadata]
    return getattr(annotation, "__origin__", annotation) if constraints else annotation, constraints


def _bounds(metadata: list[Any]) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for constraint in metadata:
        for name, sign in signs.items():
            if (bound := getattr(constraint, name, None)) is not None:
                yield f"{sign} {bound}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_toml(one)}' for name, one in value.items())}}}"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [header, ("---",) * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines] + [""]
