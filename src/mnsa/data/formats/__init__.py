"""Data sets in the formats of other tools: `import_*` reads one as a Manifest, `write_*` writes one."""

from mnsa.data.formats.coco import import_coco
from mnsa.data.formats.convert import WRITERS, convert_dataset
from mnsa.data.formats.csv_table import import_csv
from mnsa.data.formats.cvat import import_cvat
from mnsa.data.formats.folders import import_folders
from mnsa.data.formats.mask_folders import import_masks
from mnsa.data.formats.mganet import import_mganet
from mnsa.data.formats.nnunet import import_nnunet
from mnsa.data.formats.shapes import import_labelme, import_via
from mnsa.data.formats.ufg import import_ufg
from mnsa.data.formats.yolo import import_yolo

__all__ = [
    "WRITERS",
    "convert_dataset",
    "import_coco",
    "import_csv",
    "import_cvat",
    "import_folders",
    "import_labelme",
    "import_masks",
    "import_mganet",
    "import_nnunet",
    "import_ufg",
    "import_via",
    "import_yolo",
]
