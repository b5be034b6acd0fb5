"""What others keep as folders, lists or tables, as a Manifest; the files stay where they are."""

from mnsa.data.importers.csv_table import import_csv
from mnsa.data.importers.folders import import_folders
from mnsa.data.importers.mganet import import_mganet
from mnsa.data.importers.ufg import import_ufg

__all__ = ["import_csv", "import_folders", "import_mganet", "import_ufg"]
