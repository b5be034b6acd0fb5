"""What others keep as folders, lists or tables, as a Manifest; the files stay where they are."""

from mnsa.data.importers.coco import import_coco
from mnsa.data.importers.csv_table import import_csv
from mnsa.data.importers.folders import import_folders
from mnsa.data.importers.mask_folders import import_masks
from mnsa.data.importers.mganet import import_mganet
from mnsa.data.importers.nnunet import import_nnunet
from mnsa.data.importers.ufg import import_ufg
from mnsa.data.importers.yolo import import_yolo

__all__ = [
    "import_coco",
    "import_csv",
    "import_folders",
    "import_masks",
    "import_mganet",
    "import_nnunet",
    "import_ufg",
    "import_yolo",
]
