"""Pickles that execute code when they are unpickled: each creates a folder `ran`."""

import copyreg
import os
import pickle
from collections.abc import Callable

import numpy as np


class Calling:
    """Its pickle is a function call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


NESTED = b"cnumpy.core.multiarray\nscalar\n(cos\nmkdir\n(S'ran'\ntRN"
ARMED = {
    "os.system": (pickle.dumps({1: Calling(os.system, "mkdir ran")}), "refers to 'posix'.'system'"),
    "a key": (pickle.dumps({Calling(os.mkdir, "ran"): 1}), "refers to 'posix'.'mkdir'"),
    "eval": (pickle.dumps({1: Calling(eval, "__import__('os').mkdir('ran')")}, 2), "refers to '__builtin__'.'eval'"),
    "no dict": (pickle.dumps(Calling(os.mkdir, "ran"), 0), "refers to 'posix'.'mkdir'"),
    "an argument of a call": (b"}K\x01" + NESTED + b"tRs.", "refers to 'os'.'mkdir'"),
    "an argument of numpy": (pickle.dumps({1: Calling(np.dtype, Calling(os.mkdir, "ran"))}), "'posix'.'mkdir'"),
    "a name through the memo": (
        b"\x80\x04\x8c\x05mkdirq\x07\x8c\x02osq\x09h\x09h\x07\x93\x8c\x03ran\x85R.",
        "refers to 'os'.'mkdir'",
    ),
    "a name with dots": (
        b"\x80\x04\x8c\x05numpy\x8c\x08os.mkdir\x93\x8c\x03ran\x85R.",
        "refers to 'numpy'.'os.mkdir'",
    ),
    "INST": (b"(S'ran'\nios\nmkdir\n.", r"instruction INST \('os mkdir'\) at byte 8"),
    "OBJ": (b"(cos\nmkdir\nS'ran'\no.", "refers to 'os'.'mkdir'"),
    "an extension": (b"\x80\x02\x82\x63X\x03\0\0\0ran\x85R.", "instruction EXT1 at byte 2"),
    "after the labels": (b"}K\x01K\x01scos\nmkdir\n(S'ran'\ntR0.", "refers to 'os'.'mkdir'"),
    "a registered class": (
        pickle.dumps(
            {
                1: Calling(
                    copyreg._reconstructor,  # type: ignore[attr-defined]
                    object,
                    object,
                    None,
                )
            },
            1,
        ),
        "copy",
    ),
}
