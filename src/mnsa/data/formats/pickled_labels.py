"""`labels.pkl`, read without trust: an interpreter of those pickle instructions that a dict of labels consists of.

A pickle is a program. Here nothing is imported, called or looked up: numpy's integers are known by their wording alone
and decoded by hand, every other instruction is refused, and what remains builds dicts, tuples, text and whole numbers.
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

MAX_BYTES = 4 * 2**20  # 100,000 file names; a hostile file of this size fills 0.4 GB at most
MAX_BITS = 64
EXPECTED = "Expected a pickled dict from image numbers or file names to labels 1, 2, 3, ...; nothing in it was run."


class _Known(Enum):
    """The names that a pickled numpy integer calls."""

    DTYPE = "numpy.dtype"
    SCALAR = "numpy's scalar"
    ENCODE = "_codecs.encode"

    def __repr__(self) -> str:
        return self.value


_MARK = object()
_SHORTENED = Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 80
_brief = _SHORTENED.repr
_NAMES = {
    ("numpy", "dtype"): _Known.DTYPE,
    ("numpy.core.multiarray", "scalar"): _Known.SCALAR,  # numpy 1
    ("numpy._core.multiarray", "scalar"): _Known.SCALAR,  # numpy 2
    ("_codecs", "encode"): _Known.ENCODE,  # how protocols 0 to 2 write bytes
}
_ORDERS: dict[object, Literal["little", "big"]] = {"<": "little", ">": "big", "|": "little"}


@dataclass(eq=False)
class _IntegerType:
    """What stands for a numpy dtype. code: i or u and the number of bytes."""

    code: str
    order: Literal["little", "big"] = "little"


class _RefusedError(Exception):
    """What the file holds that it must not, to be read after the file's name."""


def read_labels(path: Path) -> dict[int | str, int]:
    """Read a pickled dict, protocols 0 to 5, from image number or file name to label >= 1; numpy integers become int.

    Raises: DataError naming the file and what it holds instead; nothing of the file is ever run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of escapes that a broken file may hold
            return _Machine().run(_bytes_of(path))
    except _RefusedError as refusal:
        raise DataError(f"{path} {refusal}. {EXPECTED}") from None
    except (ValueError, IndexError, KeyError) as error:  # also UnicodeError: what a broken pickle leads to
        raise DataError(f"{path} is a broken pickle ({str(error)[:100]}). {EXPECTED}") from None


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _RefusedError(f"has {size:,} bytes; at most {MAX_BYTES:,} are read")
        if size == 0:
            raise _RefusedError("is empty (0 bytes)")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. It holds the labels of the images; restore it.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error}.") from None


class _Machine:
    """The stack and the memo that pickle instructions work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> dict[int | str, int]:
        for instruction, argument, at_byte in pickletools.genops(program):
            step = _STEPS.get(instruction.name)
            if step is None:
                named = f" ({_brief(argument)})" if isinstance(argument, str) else ""
                raise _RefusedError(f"uses the pickle instruction {instruction.name}{named} at byte {at_byte}")
            step(self, argument)
        table = self.stack.pop()
        if not isinstance(table, dict):
            raise _RefusedError(f"holds {_brief(table)}, which is no dict")
        return table

    def push(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise _RefusedError(f"holds a whole number of {value.bit_length():,} bits")
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        """Take the top `count` values, the topmost last. Raises: IndexError when there are fewer."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def name(self, module: object, attribute: object) -> None:
        known = _NAMES.get((module, attribute)) if isinstance(module, str) and isinstance(attribute, str) else None
        if known is None:
            raise _RefusedError(f"asks for {_brief(module)}.{_brief(attribute)}")
        self.push(known)

    def call(self) -> None:
        function, arguments = self.pop(2)
        match function, arguments:
            case _Known.ENCODE, (str(text), "latin1"):
                self.push(text.encode("latin-1"))
            case _Known.DTYPE, (str(code), *_) if re.fullmatch("[iu][1248]", code):
                self.push(_IntegerType(code))
            case _Known.SCALAR, (_IntegerType() as kind, bytes() | str() as data):
                self.push(_integer(kind, data))
            case _:
                raise _RefusedError(f"calls {_brief(function)} with {_brief(arguments)}")

    def set_byte_order(self) -> None:
        kind, state = self.pop(2)
        match kind, state:
            case _IntegerType(), (int(), str(order), *_) if order in _ORDERS:
                kind.order = _ORDERS[order]
                self.push(kind)
            case _:
                raise _RefusedError(f"sets the state of {_brief(kind)} to {_brief(state)}")

    def make_dict(self) -> None:
        items = self.pop_to_mark()
        self.push({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict):
            raise _RefusedError(f"sets items of {_brief(table)}, which is no dict")
        for key, label in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (int, str) or key in table:  # bool is a child of int
                raise _RefusedError(f"holds the key {_brief(key)}, which is no number or name, or is there twice")
            if type(label) is not int or label < 1:
                raise _RefusedError(f"gives {_brief(key)} the label {_brief(label)}")
            table[key] = label


def _integer(kind: _IntegerType, data: bytes | str) -> int:
    """Decode the bytes of a numpy integer; Python 2 wrote them as text."""
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if len(raw) != int(kind.code[1]):
        raise _RefusedError(f"holds a numpy integer of type {kind.code} in {len(raw)} bytes")
    return int.from_bytes(raw, kind.order, signed=kind.code[0] == "i")


_Step = Callable[[_Machine, Any], None]
_LITERALS = """
    INT BININT BININT1 BININT2 LONG LONG1 UNICODE BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES
    STRING BINSTRING SHORT_BINSTRING
"""
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
    **dict.fromkeys(_LITERALS.split(), _Machine.push),
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
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.pop(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_byte_order(),
}
