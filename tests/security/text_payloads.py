"""Payloads in text: names that lead out, tables and settings that exhaust whoever reads them."""

from collections.abc import Callable

from sandbox import DATASET_TOML, Payload, Place

DEEP = "[" * 30_000 + "]" * 30_000
SPARSE = 1 << 30  # bytes that a file claims and doesn't take on the disk


def listed(cell: str, says: str, column: str = "image") -> Payload:
    """A cell of manifest.csv that is refused by its wording alone."""

    def lay(place: Place) -> list[object]:
        quoted = '"' + cell.format(elsewhere=place.elsewhere).replace('"', '""') + '"'
        data = place.rows(f"{quoted}," if column == "image" else f"a.png,{quoted}")
        return ["split", data, "--val-fraction", 0.2, "--out", place.out]

    return Payload(f"{column} {cell[:30]!a}", lay, says)


def looked_for(cell: str, says: str) -> Payload:
    """A cell whose wording is harmless: it names a file that isn't there."""
    return Payload(f"check {cell[:30]!a}", lambda place: ["check", place.rows(f'"{cell}",')], says)


def linked(name: str, target: str, row: str, says: str) -> Payload:
    """A link, or a pipe, among the pictures."""

    def lay(place: Place) -> list[object]:
        place.leads_to(name, target)
        return ["check", place.rows(row)]

    return Payload(f"{name} -> {target}", lay, says)


def instead(name: str, target: str, says: str) -> Payload:
    """A link, a pipe or a file of no end in the place of one of the two text files."""

    def lay(place: Place) -> list[object]:
        place.rows("a.png")
        if target == "sparse":
            with (place.home / name).open("r+b") as file:
                file.truncate(SPARSE)
        else:
            place.leads_to(name, target)
        return ["split", place.home, "--val-fraction", 0.2, "--out", place.out]

    return Payload(f"{name} is {target}", lay, says)


def described(name: str, text: str, says: str) -> Payload:
    """A dataset.toml."""

    def lay(place: Place) -> list[object]:
        return ["split", place.rows("a.png", names=text), "--val-fraction", 0.2, "--out", place.out]

    return Payload(f"dataset.toml: {name}", lay, says)


def tabled(name: str, text: str, says: str) -> Payload:
    """A manifest.csv as a whole."""

    def lay(place: Place) -> list[object]:
        place.rows()
        place.file("manifest.csv", text)
        return ["split", place.home, "--val-fraction", 0.2, "--out", place.out]

    return Payload(f"manifest.csv: {name}", lay, says)


def imported(kind: str, name: str, content: str, says: str) -> Payload:
    """A table for `import csv`, or a list for `import ufg`."""

    def lay(place: Place) -> list[object]:
        place.picture("images/a.png")
        text = content.format(elsewhere=place.elsewhere)
        if kind == "csv":
            return [
                "import",
                "csv",
                place.file("table.csv", f"image,mask\n{text}\n"),
                "--mask",
                "mask",
                "--out",
                place.out,
            ]
        place.file("anno/test.txt", "")
        place.file("anno/train.txt", text)
        return ["import", "ufg", place.home, "--out", place.out]

    return Payload(f"{kind}: {name}", lay, says)


def list_is(kind: str, target: str, says: str) -> Payload:
    """A pipe or a device in the place of a table or a list."""

    def lay(place: Place) -> list[object]:
        (place.home / "images").mkdir()
        path = place.leads_to("table.csv" if kind == "csv" else "anno/train.txt", target)
        return ["import", kind, path if kind == "csv" else place.home, "--out", place.out]

    return Payload(f"{kind}: {target}", lay, says)


def config(name: str, text: str, says: str, more: Callable[[Place], object] = lambda place: None) -> Payload:
    """A config for `mnsa train`."""

    def lay(place: Place) -> list[object]:
        more(place)
        path = place.file("config.toml", text.format(elsewhere=place.elsewhere) if "{elsewhere}" in text else text)
        return ["train", path, "--data", place.fixture("dataset"), "--out", place.out]

    return Payload(f"config: {name}", lay, says)


INSIDE = "expected a path inside the root"
NO_FILE = "it is no regular file, but a folder, a pipe or a device"
STAGE = '[[stages]]\nname="a"\ntasks=["classification"]\ntrainable=["class_head"]\nepochs=1\nbatch_size=2\nlr=0.1\n'
NET = '[model]\nbackbone="{}"\npretrained="{}"\n'
PAYLOADS = (
    listed("../elsewhere/secret.png", INSIDE),
    listed("a/../../elsewhere/secret.png", INSIDE),
    listed("..", INSIDE),
    listed("{elsewhere}/secret.png", INSIDE),
    listed("//server/share/leaf.png", INSIDE),
    listed(r"\\server\share\leaf.png", INSIDE),
    listed(r"..\elsewhere\secret.png", INSIDE),
    listed(r"C:\secret.png", INSIDE),
    listed("C:/secret.png", INSIDE),
    listed("c:secret.png", INSIDE),
    listed("a.png\0.txt", INSIDE),
    listed("\x1b]0;a\x07.png", INSIDE),
    listed("a\nb.png", INSIDE),
    listed("\uff0e\uff0e/elsewhere/secret.png", INSIDE),  # full-width dots: NFKC makes them ..
    listed("\u2025/elsewhere/secret.png", INSIDE),  # a two-dot leader likewise
    listed("..\uff0felsewhere\uff0fsecret.png", INSIDE),  # full-width slashes
    listed("", "image is empty"),
    listed("../elsewhere/secret.png", INSIDE, column="mask"),
    listed("{elsewhere}/secret.png", INSIDE, column="mask"),
    looked_for("%2e%2e/elsewhere/secret.png", "does not exist"),
    looked_for("~/secret.png", "does not exist"),
    looked_for("$HOME/secret.png", "does not exist"),
    looked_for("$(touch ran).png", "does not exist"),
    looked_for("file:///etc/hostname", "does not exist"),
    looked_for("x/" * 2000 + "a.png", "a.png"),
    listed("x/" * 30_000 + "a.png", INSIDE),
    looked_for("x" * 300 + ".png", "xxx"),
    looked_for(".", "is not an image, but a folder"),
    linked("a.png", "{elsewhere}/secret.png", "a.png,", "outside the data set's root"),
    linked("a", "{elsewhere}", "a/secret.png,", "outside the data set's root"),
    linked("b.png", "../elsewhere/secret.png", "a.png,b.png", "outside the data set's root"),
    linked("a.png", "/dev/zero", "a.png,", "outside the data set's root"),
    linked("a.png", "a.png", "a.png,", "is a broken link"),
    linked("a.png", "pipe", "a.png,", "is not an image, but a folder or a device"),
    *(instead(name, target, NO_FILE) for name in ("manifest.csv", "dataset.toml") for target in ("pipe", "/dev/zero")),
    *(instead(name, "sparse", "1,073,741,824 bytes") for name in ("manifest.csv", "dataset.toml")),
    tabled("500 columns", ",".join(f"c{n}" for n in range(500)) + "\n", "500 columns"),
    tabled("an endless cell", "image\n" + "x" * 200_000, "field larger than field limit"),
    tabled("no text", "image\n\0\n", INSIDE),
    described("depth", f"classes = {DEEP}", "nested more than 20 levels"),
    described("a long key", "a" + ".a" * 30_000 + " = 1", "more than 1000 dots"),
    described("many digits", f"name = {'9' * 5000}", "can't be read as TOML"),
    described("a NUL in the root", f'{DATASET_TOML}root = "a\\u0000"', "root"),
    described("code for a name", "classes = [__import__('os')]", "can't be read as TOML"),
    imported("csv", "..", "../elsewhere/secret.png,", INSIDE),
    imported("csv", "absolute", "{elsewhere}/secret.png,", INSIDE),
    imported("csv", "a mask elsewhere", "images/a.png,../elsewhere/secret.png", INSIDE),
    imported("csv", "a drive", "C:/a.png,", INSIDE),
    imported("ufg", "..", "../../elsewhere/secret.png 1", INSIDE),
    imported("ufg", "absolute", "{elsewhere}/secret.png 1", INSIDE),
    imported("ufg", "code for a label", "a.png __import__('os').mkdir('ran')", "expected `<file> <label>`"),
    imported("ufg", "an endless label", "a.png " + "9" * 100_000, "expected `<file> <label>`"),
    *(list_is(kind, target, NO_FILE) for kind in ("csv", "ufg") for target in ("pipe", "/dev/zero")),
    config("depth", f"model = {DEEP}\n{STAGE}", "nested more than 20 levels"),
    config("a long key", "a" + ".a" * 30_000 + " = 1", "more than 1000 dots"),
    config("many digits", f"{STAGE}[train]\nseed = {'9' * 5000}", "can't be read as TOML"),
    config("a base with a NUL", f'base = "a\\u0000"\n{STAGE}', "base is"),
    config("a base that never ends", f'base = "/dev/zero"\n{STAGE}', NO_FILE),
    config("a base that waits", f'base = "pipe"\n{STAGE}', NO_FILE, lambda place: place.leads_to("pipe", "pipe")),
    config("itself as base", f'base = "config.toml"\n{STAGE}', "form a circle"),
    config("a model of the hub", NET.format("hf-hub:stranger/net", "none") + STAGE, "timm has no model"),
    config("a model in a folder", NET.format("local-dir:/tmp", "none") + STAGE, "timm has no model"),
    config("a model with a path", NET.format("resnet18.a/../../b", "none") + STAGE, "can't be a backbone"),
)
