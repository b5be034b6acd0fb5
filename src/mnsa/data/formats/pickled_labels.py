"""Read an untrusted `labels.pkl` without unpickling it.

A pickle is a program. This module interprets the few instructions that a dict of labels needs, and rejects all
others. It imports and calls nothing: numpy integers are recognized by their names and decoded here. The result can
only contain dicts, tuples, text and integers.
Source: Python's `pickletools`, which documents the instructions.
"""

import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from reprlib import Repr
from typing import Any, Literal

from mnsa.errors import DataError

MAX_BYTES = 4 * 2**20  # 100,000 file names; a malicious file of this size needs at most 0.4 GB of memory

MAX_BITS = 64

EXPECTED = "Expected a pickled dict from image numbers or file names to labels 1, 2, 3, ...; no code in it was run."

_MARK = object()

_SHORT_REPR = Repr()

_SHORT_REPR.maxstring = _SHORT_REPR.maxother = 80

_shorten = _SHORT_REPR.repr

_BYTE_ORDERS: dict[object, Literal["little", "big"]] = {"<": "little", ">": "big", "|": "little"}

_LITERAL_INSTRUCTIONS = """
    INT BININT BININT1 BININT2 LONG LONG1 UNICODE BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES
    STRING BINSTRING SHORT_BINSTRING
"""


class _AllowedName(Enum):
    """The functions that a pickled numpy integer refers to."""

    DTYPE = "numpy.dtype"
    SCALAR = "numpy's scalar"
    ENCODE = "_codecs.encode"

    def __repr__(self) -> str:
        return self.value


_ALLOWED_NAMES = {
    ("numpy", "dtype"): _AllowedName.DTYPE,
    ("numpy.core.multiarray", "scalar"): _AllowedName.SCALAR,  # numpy 1
    ("numpy._core.multiarray", "scalar"): _AllowedName.SCALAR,  # numpy 2
    ("_codecs", "encode"): _AllowedName.ENCODE,  # protocols 0 to 2 write bytes with it
}


@dataclass(eq=False)
class _IntegerType:
    """Represents a numpy dtype. code: i or u and the number of bytes."""

    code: str
    order: Literal["little", "big"] = "little"


class _RejectedPickleError(Exception):
    """The file is rejected. The message continues a sentence that starts with the file's name."""


def read_pickled_labels(path: Path) -> dict[int | str, int]:
    """Read a pickled dict from image numbers or file names to labels >= 1. Protocols 0 to 5; numpy integers become int.

    No code of the file is executed. Raises: DataError with the file and what it contains.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about invalid escapes in a broken file
            return _PickleInterpreter().run(_read_bytes(path))
    except _RejectedPickleError as rejection:
        raise DataError(f"{path} {rejection}. {EXPECTED}") from None
    except (ValueError, IndexError, KeyError) as error:  # ValueError includes UnicodeError
        raise DataError(f"{path} is a broken pickle ({str(error)[:100]}). {EXPECTED}") from None


class _PickleInterpreter:
    """Interprets pickle instructions on a stack and a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> dict[int | str, int]:
        for instruction, argument, at_byte in pickletools.genops(program):
            step = _HANDLERS.get(instruction.name)
            if step is None:
                named = f" ({_shorten(argument)})" if isinstance(argument, str) else ""
                raise _RejectedPickleError(f"uses the pickle instruction {instruction.name}{named} at byte {at_byte}")
            step(self, argument)
        table = self.stack.pop()
        if not isinstance(table, dict):
            raise _RejectedPickleError(f"holds {_shorten(table)}, which is no dict")
        return table

    def push(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise _RejectedPickleError(f"holds a whole number of {value.bit_length():,} bits")
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        """Remove and return the top `count` values, the topmost last. Raises: IndexError when there are fewer."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def name(self, module: object, attribute: object) -> None:
        known = (
            _ALLOWED_NAMES.get((module, attribute)) if isinstance(module, str) and isinstance(attribute, str) else None
        )
        if known is None:
            raise _RejectedPickleError(f"refers to {_shorten(module)}.{_shorten(attribute)}")
        self.push(known)

    def call(self) -> None:
        function, arguments = self.pop(2)
        match function, arguments:
            case _AllowedName.ENCODE, (str(text), "latin1"):
                self.push(text.encode("latin-1"))
            case _AllowedName.DTYPE, (str(code), *_) if re.fullmatch("[iu][1248]", code):
                self.push(_IntegerType(code))
            case _AllowedName.SCALAR, (_IntegerType() as kind, bytes() | str() as data):
                self.push(_decode_integer(kind, data))
            case _:
                raise _RejectedPickleError(f"calls {_shorten(function)} with {_shorten(arguments)}")

    def set_byte_order(self) -> None:
        kind, state = self.pop(2)
        match kind, state:
            case _IntegerType(), (int(), str(order), *_) if order in _BYTE_ORDERS:
                kind.order = _BYTE_ORDERS[order]
                self.push(kind)
            case _:
                raise _RejectedPickleError(f"sets the state of {_shorten(kind)} to {_shorten(state)}")

    def make_dict(self) -> None:
        items = self.pop_to_mark()
        self.push({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict):
            raise _RejectedPickleError(f"sets items of {_shorten(table)}, which is no dict")
        for key, label in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (int, str) or key in table:  # not isinstance: bool is a subclass of int
                raise _RejectedPickleError(
                    f"holds the key {_shorten(key)}, which is no number or name, or occurs twice"
                )
            if type(label) is not int or label < 1:
                raise _RejectedPickleError(f"gives {_shorten(key)} the label {_shorten(label)}")
            table[key] = label


_Handler = Callable[[_PickleInterpreter, Any], None]


_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
    **dict.fromkeys(_LITERAL_INSTRUCTIONS.split(), _PickleInterpreter.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.make_dict(),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _PickleInterpreter.remember),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.pop(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_byte_order(),
}


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _RejectedPickleError(f"has {size:,} bytes; at most {MAX_BYTES:,} are read")
        if size == 0:
            raise _RejectedPickleError("is empty (0 bytes)")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. It contains the labels of the images; restore it.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error}.") from None


def _decode_integer(kind: _IntegerType, data: bytes | str) -> int:
    """Decode the bytes of a numpy integer. Python 2 wrote them as text."""
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if len(raw) != int(kind.code[1]):
        raise _RejectedPickleError(f"holds a numpy integer of type {kind.code} in {len(raw)} bytes")
    return int.from_bytes(raw, kind.order, signed=kind.code[0] == "i")
