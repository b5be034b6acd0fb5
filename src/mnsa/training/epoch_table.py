"""metrics.csv: one row per epoch, every loss and score a column."""

import csv
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from mnsa.run_folder import write_text


class EpochTable(Callback):
    """Appends each epoch's scores to a CSV file and prints them; an epoch that is run again is replaced."""

    def __init__(self, file: Path, stage: str) -> None:
        self.file = file
        self.stage = stage

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"stage": self.stage, "epoch": str(trainer.current_epoch + 1)}
        row |= {name: f"{float(value):.5g}" for name, value in sorted(trainer.callback_metrics.items())}
        write_text(self.file, _csv_text([*self._earlier_rows(trainer.current_epoch), row]))
        scores = "  ".join(f"{name} {row[name]}" for name in row if name == "loss" or name.startswith("val_"))
        print(f"{self.stage} {row['epoch']}/{trainer.max_epochs}  {scores}", flush=True)  # noqa: T201

    def _earlier_rows(self, epoch: int) -> list[dict[str, str]]:
        if not self.file.exists():
            return []
        with self.file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [row for row in rows if row["stage"] != self.stage or int(row["epoch"]) <= epoch]


def _csv_text(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)
