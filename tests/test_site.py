"""The site: its generated pages, and the build without warnings."""

import re
import sys
import tomllib
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from pydantic import BaseModel

import mnsa
from mnsa.config import Config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The module that makes the generated pages."""
    spec = util.spec_from_file_location("reference_pages", ROOT / "docs" / "hooks" / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections() -> list[tuple[str, type[BaseModel]]]:
    found: list[tuple[str, type[BaseModel]]] = []
    for name, field in Config.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        found.append((name, next(part for part in parts if issubclass(part, BaseModel))))
    return found


@pytest.mark.parametrize(("name", "section"), sections())
def test_the_config_page_lists_every_key_with_its_description(
    hook: ModuleType, name: str, section: type[BaseModel]
) -> None:
    page = hook.config_page().split(f"\n## {name}\n")[1].split("\n## ")[0]
    for key, field in section.model_fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{key}` |")]
        assert (field.description or "?").replace("|", "\\|") in row


def test_the_config_page_gives_bounds_choices_and_defaults(hook: ModuleType) -> None:
    page = hook.config_page()
    assert '| `precision` | `float32`, `bfloat16`, `float16` | `"float32"` |' in page
    assert "| `size` | 2 of: whole number ≥ 32 ≤ 20000 | `[256, 256]` |" in page
    assert "| `epochs` | whole number ≥ 1 | required |" in page


def test_the_command_page_lists_every_verb_and_its_options(hook: ModuleType) -> None:
    page = hook.cli_page()
    for verb in ("train", "evaluate", "predict", "import folders", "import coco", "serve", "search", "calibrate"):
        assert f"\n## mnsa {verb}\n" in page
    predict = page.split("\n## mnsa predict\n")[1].split("\n## ")[0]
    assert "| `--engine` | `onnx`, `openvino`, `torch` |" in predict
    assert "| `IMAGES` |  | required |" in predict


def test_pages_from_the_root_link_to_pages_and_to_nothing_else(hook: ModuleType) -> None:
    text = hook.root_page("background/security.md")
    assert "](docs/" not in text
    assert "](benchmarks/" not in text


def test_the_commands_in_the_pages_have_only_options_that_exist(hook: ModuleType) -> None:
    known = {
        section.splitlines()[0]: set(re.findall(r"`(--[a-z-]+)`", section))
        for section in hook.cli_page().split("\n## ")[1:]
    }
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    unknown = []
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for command in re.findall(r"\bmnsa [a-z][^`\n#|]*", text):
            words = command.split()
            verb = " ".join(words[: 3 if words[1] == "import" else 2])
            options = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
            if verb in known:
                unknown += [(page.name, verb, option) for option in options - known[verb]]
    assert unknown == []
    assert len(known) > 20


def test_links_in_the_repository_lead_to_files() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmarks" / "RESULTS.md"]
    generated = {"cli.md", "config.md"}  # of docs/reference
    broken = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists() and Path(link).name not in generated
    ]
    assert broken == []


def test_the_architecture_page_is_short_and_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1500
    packages = [path.parent.name for path in (ROOT / "src" / "mnsa").rglob("__init__.py")]
    assert [name for name in packages if name not in text] == []


def test_the_architecture_page_shows_the_layers_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    diagram = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    shown = [re.match(r" +(\w+(?: +\| +\w+)*)(?:  |$)", line) for line in diagram.splitlines()]
    assert all(shown)
    names = [set(match[1].replace(" ", "").split("|")) for match in shown if match]
    assert names == [set(layer.replace(" ", "").split("|")) for layer in layers]


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))  # hooks may extend it
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))  # strict: a warning is an error
    for page in (
        "index.html",
        "reference/config/index.html",
        "reference/api/index.html",
        "background/benchmarks/index.html",
    ):
        assert (tmp_path / "site" / page).is_file()
    api = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert [name for name in mnsa.__all__ if f'id="mnsa.{name}"' not in api] == []
