"""An answer's form: JSON, a table, or a ZIP file with the table and pictures. All are made in memory."""

import csv
import io
import zipfile
from typing import Protocol

from mnsa.serving.answers import Answers, Choices
from mnsa.serving.desk import Names, Predicted, answer_of, likeliest, mask_shares
from mnsa.serving.pictures import mask_png, overlay_jpeg
from mnsa.traits import Ruler

_TOP = 5  # as many as `mnsa predict` writes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run what begins so
_UNSAFE = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


class Reply(Protocol):
    """Takes predictions one by one, then is the body of a response."""

    @property
    def media_type(self) -> str:
        """What its body is."""

    @property
    def file_name(self) -> str | None:
        """What a browser should call it, when it is a file."""

    def add(self, predicted: Predicted) -> None:
        """Take in one image's prediction."""

    def body(self) -> bytes:
        """Everything that was taken in."""


def make_reply(choices: Choices, names: Names, ruler: Ruler | None) -> Reply:
    """The reply of the chosen form. ruler: None where there is nothing to measure."""
    if choices.answer_as == "json":
        return JsonReply(choices, names, ruler)
    table = CsvReply(names, ruler)
    return table if choices.answer_as == "csv" else ZipReply(table)


class JsonReply:
    """The chosen parts of each answer."""

    media_type = "application/json"
    file_name = None

    def __init__(self, choices: Choices, names: Names, ruler: Ruler | None) -> None:
        self.choices, self.names, self.ruler = choices, names, ruler
        self.answers = Answers(answers=[])

    def add(self, predicted: Predicted) -> None:
        choices = self.choices
        answer = answer_of(predicted, self.names, parts=choices.parts, top_k=choices.top_k, ruler=self.ruler)
        self.answers.answers.append(answer)

    def body(self) -> bytes:
        return self.answers.model_dump_json().encode()


class CsvReply:
    """A row per image, with the columns that `mnsa predict` writes."""

    media_type = "text/csv; charset=utf-8"
    file_name = "predictions.csv"

    def __init__(self, names: Names, ruler: Ruler | None) -> None:
        self.names, self.ruler = names, ruler
        classes = ["class", "probability", "top5"] if names.classes else []
        shares = [f"share_{name}" for name in names.mask_classes]
        self.text = io.StringIO()
        columns = ["image", *classes, *shares, *(ruler.columns if ruler else [])]
        self.table = csv.DictWriter(self.text, columns, restval="", lineterminator="\n")
        self.table.writeheader()

    def add(self, predicted: Predicted) -> None:
        row = {"image": f"'{predicted.name}" if predicted.name.startswith(_FORMULA) else predicted.name}
        said = predicted.prediction
        if said.class_probs is not None:
            best = likeliest(said.class_probs, self.names.classes, _TOP)
            row["class"], row["probability"] = best[0].name, f"{best[0].probability:.4f}"
            row["top5"] = "; ".join(f"{one.name} {one.probability:.4f}" for one in best)
        if said.mask is not None:
            shares = mask_shares(said.mask, self.names.mask_classes)
            row |= {f"share_{one.name}": f"{one.share:.6f}" for one in shares}
            row |= self.ruler.row(said.mask) if self.ruler else {}
        self.table.writerow(row)

    def body(self) -> bytes:
        return self.text.getvalue().encode()


class ZipReply:
    """predictions.csv, masks/NAME.png and overlays/NAME.jpg."""

    media_type = "application/zip"
    file_name = "predictions.zip"

    def __init__(self, table: CsvReply) -> None:
        self.table = table
        self.data = io.BytesIO()
        self.archive = zipfile.ZipFile(self.data, "w")  # pictures are compressed already
        self.taken: set[str] = set()

    def add(self, predicted: Predicted) -> None:
        self.table.add(predicted)
        mask = predicted.prediction.mask
        if mask is not None:
            name = self._new_name(predicted.name)
            self.archive.writestr(f"masks/{name}.png", mask_png(mask))
            self.archive.writestr(f"overlays/{name}.jpg", overlay_jpeg(predicted.pixels, mask))

    def body(self) -> bytes:
        self.archive.writestr("predictions.csv", self.table.body(), zipfile.ZIP_DEFLATED)
        self.archive.close()
        return self.data.getvalue()

    def _new_name(self, image: str) -> str:
        """The image's name without its suffix, fit for every file system, with a number where two images share it."""
        stem = image.rpartition(".")[0] or image
        stem = stem.translate(_UNSAFE).strip(" .") or "image"
        name, number = stem, 1
        while name.lower() in self.taken:
            number += 1
            name = f"{stem}-{number}"
        self.taken.add(name.lower())
        return name
