"""Payloads in text files: paths out of the root, and tables and configs that exhaust memory or time."""

from collections.abc import Callable

from sandbox import DATASET_TOML, Command, Payload, Sandbox

DEEP = "[" * 30_000 + "]" * 30_000
SPARSE_BYTES = 1 << 30  # size of a file that takes no space on the disk


def refused_path(cell: str, message: str, column: str = "image") -> Payload:
    """A path in manifest.csv that is refused before the file is looked for."""

    def prepare(sandbox: Sandbox) -> Command:
        quoted = '"' + cell.format(outside=sandbox.outside).replace('"', '""') + '"'
        data = sandbox.write_dataset(f"{quoted},m.png" if column == "image" else f"a.png,{quoted}")
        return ["split", data, "--val-fraction", 0.2, "--out", sandbox.out]

    return Payload(f"{column} {cell[:30]!a}", prepare, message)


def missing_path(cell: str, message: str) -> Payload:
    """A path in manifest.csv that is allowed and names no existing file."""
    return Payload(f"check {cell[:30]!a}", lambda sandbox: ["check", sandbox.write_dataset(f'"{cell}",')], message)


def link(name: str, target: str, row: str, message: str) -> Payload:
    """A link or a pipe in place of an image."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_link(name, target)
        return ["check", sandbox.write_dataset(row)]

    return Payload(f"{name} -> {target}", prepare, message)


def text_file_replaced(name: str, target: str, message: str) -> Payload:
    """A link, a pipe or a huge file in place of manifest.csv or dataset.toml."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_dataset("a.png")
        if target == "sparse":
            with (sandbox.inputs / name).open("r+b") as file:
                file.truncate(SPARSE_BYTES)
        else:
            sandbox.write_link(name, target)
        return ["split", sandbox.inputs, "--val-fraction", 0.2, "--out", sandbox.out]

    return Payload(f"{name} is {target}", prepare, message)


def dataset_toml(name: str, text: str, message: str) -> Payload:
    """A dataset.toml with this text."""

    def prepare(sandbox: Sandbox) -> Command:
        return ["split", sandbox.write_dataset("a.png", toml=text), "--val-fraction", 0.2, "--out", sandbox.out]

    return Payload(f"dataset.toml: {name}", prepare, message)


def manifest_csv(name: str, text: str, message: str) -> Payload:
    """A manifest.csv with this text."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_dataset()
        sandbox.write_file("manifest.csv", text)
        return ["split", sandbox.inputs, "--val-fraction", 0.2, "--out", sandbox.out]

    return Payload(f"manifest.csv: {name}", prepare, message)


def import_table(kind: str, name: str, content: str, message: str) -> Payload:
    """A table for `import csv`, or a list file for `import ufg`."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_image("images/a.png")
        text = content.format(outside=sandbox.outside)
        if kind == "csv":
            return [
                "import",
                "csv",
                sandbox.write_file("table.csv", f"image,mask\n{text}\n"),
                "--mask",
                "mask",
                "--out",
                sandbox.out,
            ]
        sandbox.write_file("anno/test.txt", "")
        sandbox.write_file("anno/train.txt", text)
        return ["import", "ufg", sandbox.inputs, "--out", sandbox.out]

    return Payload(f"{kind}: {name}", prepare, message)


def table_replaced(kind: str, target: str, message: str) -> Payload:
    """A pipe or a device in place of a table or a list file."""

    def prepare(sandbox: Sandbox) -> Command:
        (sandbox.inputs / "images").mkdir()
        path = sandbox.write_link("table.csv" if kind == "csv" else "anno/train.txt", target)
        return ["import", kind, path if kind == "csv" else sandbox.inputs, "--out", sandbox.out]

    return Payload(f"{kind}: {target}", prepare, message)


def config(
    name: str, text: str, message: str, prepare_more: Callable[[Sandbox], object] = lambda sandbox: None
) -> Payload:
    """A config for `mnsa train`."""

    def prepare(sandbox: Sandbox) -> Command:
        prepare_more(sandbox)
        path = sandbox.write_file("config.toml", text.format(outside=sandbox.outside) if "{outside}" in text else text)
        return ["train", path, "--data", sandbox.fixture("dataset"), "--out", sandbox.out]

    return Payload(f"config: {name}", prepare, message)


INSIDE = "expected a path inside the root"
NO_FILE = "it is no regular file, but a folder, a pipe or a device"
STAGE = '[[stages]]\nname="a"\ntasks=["classification"]\ntrainable=["class_head"]\nepochs=1\nbatch_size=2\nlr=0.1\n'
NET = '[model]\nbackbone="{}"\npretrained="{}"\n'
PAYLOADS = (
    refused_path("../outside/secret.png", INSIDE),
    refused_path("a/../../outside/secret.png", INSIDE),
    refused_path("..", INSIDE),
    refused_path("{outside}/secret.png", INSIDE),
    refused_path("//server/share/leaf.png", INSIDE),
    refused_path(r"\\server\share\leaf.png", INSIDE),
    refused_path(r"..\outside\secret.png", INSIDE),
    refused_path(r"C:\secret.png", INSIDE),
    refused_path("C:/secret.png", INSIDE),
    refused_path("c:secret.png", INSIDE),
    refused_path("a.png\0.txt", INSIDE),
    refused_path("\x1b]0;a\x07.png", INSIDE),
    refused_path("a\nb.png", INSIDE),
    refused_path("\uff0e\uff0e/outside/secret.png", INSIDE),  # full-width dots: NFKC makes them ..
    refused_path("\u2025/outside/secret.png", INSIDE),  # a two-dot leader likewise
    refused_path("..\uff0foutside\uff0fsecret.png", INSIDE),  # full-width slashes
    refused_path("", "image is empty"),
    refused_path("../outside/secret.png", INSIDE, column="mask"),
    refused_path("{outside}/secret.png", INSIDE, column="mask"),
    missing_path("%2e%2e/outside/secret.png", "does not exist"),
    missing_path("~/secret.png", "does not exist"),
    missing_path("$HOME/secret.png", "does not exist"),
    missing_path("$(touch ran).png", "does not exist"),
    missing_path("file:///etc/hostname", "does not exist"),
    missing_path("x/" * 2000 + "a.png", "a.png"),
    refused_path("x/" * 30_000 + "a.png", INSIDE),
    missing_path("x" * 300 + ".png", "xxx"),
    missing_path(".", "is not an image, but a folder"),
    link("a.png", "{outside}/secret.png", "a.png,", "outside the data set's root"),
    link("a", "{outside}", "a/secret.png,", "outside the data set's root"),
    link("b.png", "../outside/secret.png", "a.png,b.png", "outside the data set's root"),
    link("a.png", "/dev/zero", "a.png,", "outside the data set's root"),
    link("a.png", "a.png", "a.png,", "is a broken link"),
    link("a.png", "pipe", "a.png,", "is not an image, but a folder or a device"),
    *(
        text_file_replaced(name, target, NO_FILE)
        for name in ("manifest.csv", "dataset.toml")
        for target in ("pipe", "/dev/zero")
    ),
    *(text_file_replaced(name, "sparse", "1,073,741,824 bytes") for name in ("manifest.csv", "dataset.toml")),
    manifest_csv("500 columns", ",".join(f"c{n}" for n in range(500)) + "\n", "500 columns"),
    manifest_csv("a very long cell", "image\n" + "x" * 200_000, "field larger than field limit"),
    manifest_csv("a NUL in a path", "image\n\0\n", INSIDE),
    dataset_toml("depth", f"classes = {DEEP}", "nested more than 20 levels"),
    dataset_toml("a long key", "a" + ".a" * 30_000 + " = 1", "more than 1000 dots"),
    dataset_toml("many digits", f"name = {'9' * 5000}", "can't be read as TOML"),
    dataset_toml("a NUL in the root", f'{DATASET_TOML}root = "a\\u0000"', "root"),
    dataset_toml("code for a name", "classes = [__import__('os')]", "can't be read as TOML"),
    import_table("csv", "..", "../outside/secret.png,", INSIDE),
    import_table("csv", "absolute", "{outside}/secret.png,", INSIDE),
    import_table("csv", "a mask outside", "images/a.png,../outside/secret.png", INSIDE),
    import_table("csv", "a drive", "C:/a.png,", INSIDE),
    import_table("ufg", "..", "../../outside/secret.png 1", INSIDE),
    import_table("ufg", "absolute", "{outside}/secret.png 1", INSIDE),
    import_table("ufg", "code for a label", "a.png __import__('os').mkdir('ran')", "expected `<file> <label>`"),
    import_table("ufg", "a very long label", "a.png " + "9" * 100_000, "expected `<file> <label>`"),
    *(table_replaced(kind, target, NO_FILE) for kind in ("csv", "ufg") for target in ("pipe", "/dev/zero")),
    config("depth", f"model = {DEEP}\n{STAGE}", "nested more than 20 levels"),
    config("a long key", "a" + ".a" * 30_000 + " = 1", "more than 1000 dots"),
    config("many digits", f"{STAGE}[train]\nseed = {'9' * 5000}", "can't be read as TOML"),
    config("a base with a NUL", f'base = "a\\u0000"\n{STAGE}', "base is"),
    config("a device as base", f'base = "/dev/zero"\n{STAGE}', NO_FILE),
    config("a pipe as base", f'base = "pipe"\n{STAGE}', NO_FILE, lambda sandbox: sandbox.write_link("pipe", "pipe")),
    config("its own base", f'base = "config.toml"\n{STAGE}', "form a circle"),
    config("a model of the hub", NET.format("hf-hub:unknown/net", "none") + STAGE, "timm has no model"),
    config("a model in a folder", NET.format("local-dir:/tmp", "none") + STAGE, "timm has no model"),
    config("a model with a path", NET.format("resnet18.a/../../b", "none") + STAGE, "can't be a backbone"),
)
