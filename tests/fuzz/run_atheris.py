"""Fuzz one of the targets with Atheris (libFuzzer for Python), guided by code coverage.

Command, after `pip install 'mnsa[fuzz]'`, for ten minutes and with at most 2 GiB:
`python tests/fuzz/run_atheris.py TARGET FOLDER -max_total_time=600 -rss_limit_mb=2048 -timeout=30`
TARGET: image, manifest, dataset, config or labels. FOLDER: for the corpus and the results; input that raises an
exception is saved as FOLDER/crash-*. Further arguments are passed to libFuzzer.
Result: `Done N runs in S second(s)` and exit code 0. An exception prints its traceback and gives another exit code.
Images are decoded in C, which Atheris does not see; there, only the coverage of Pillow's Python code guides it.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

PILLOW_MODULES = (
    "Image", "ImageFile", "ImageOps", "BmpImagePlugin", "JpegImagePlugin", "MpoImagePlugin", "PngImagePlugin",
    "TiffImagePlugin", "WebPImagePlugin",
)  # fmt: skip

with atheris.instrument_imports(include=["mnsa", "tomllib", "pickletools", *(f"PIL.{m}" for m in PILLOW_MODULES)]):
    from fuzz_corpus import CORPUS
    from fuzz_targets import TARGETS, run_target


def main() -> None:
    """Write the corpus of the target into FOLDER and start libFuzzer."""
    name, folder, *options = sys.argv[1:]
    warnings.simplefilter("ignore")  # Pillow warns about damaged files
    corpus = Path(folder, "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(CORPUS[name].values()):
        (corpus / f"seed-{number:03}").write_bytes(content)
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    target = TARGETS[name]

    def run_once(data: bytes) -> None:
        run_target(target, data, scratch)

    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={folder}/", *options], run_once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
