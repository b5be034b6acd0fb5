"""Fuzz one of the five targets with Atheris (libFuzzer for Python), guided by the coverage of the reader's own code.

Command, in an environment with `pip install 'mnsa[fuzz]'`, ten minutes and at most 2 GiB:
`python tests/fuzz/run_atheris.py TARGET WORK -max_total_time=600 -rss_limit_mb=2048 -timeout=30`
TARGET: image, manifest, dataset, config or labels. WORK: a folder for the corpus as it grows, and for what is found;
the bytes of a finding lie in WORK/crash-*. Everything after it goes to libFuzzer.
Expect: `Done N runs in S second(s)` and exit code 0; a finding ends with the traceback and another exit code. Pictures
are decoded in C, of which Atheris sees nothing: there it is blind mutation, steered by Pillow's Python alone.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
PILLOW = ("Image", "ImageFile", "ImageOps", "BmpImagePlugin", "JpegImagePlugin", "MpoImagePlugin", "PngImagePlugin")
PILLOW += ("TiffImagePlugin", "WebPImagePlugin")
INSTRUMENTED = ["mnsa", "tomllib", "pickletools", *(f"PIL.{name}" for name in PILLOW)]
with atheris.instrument_imports(include=INSTRUMENTED):
    from fuzz_corpus import CORPUS
    from fuzz_targets import TARGETS, survives


def main() -> None:
    """Write the corpus's beginning into WORK and hand over to libFuzzer."""
    name, work, *options = sys.argv[1:]
    warnings.simplefilter("ignore")  # what Pillow mumbles about a file
    corpus = Path(work, "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(CORPUS[name].values()):
        (corpus / f"seed-{number:03}").write_bytes(content)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    target = TARGETS[name]

    def once(data: bytes) -> None:
        survives(target, data, folder)

    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={work}/", *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
