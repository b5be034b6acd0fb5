"""What others keep as folders or tables, as a Manifest; the files stay where they are."""

from mnsa.data.importers.csv_table import import_csv
from mnsa.data.importers.folders import import_folders

__all__ = ["import_csv", "import_folders"]
