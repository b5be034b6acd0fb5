"""labels.pkl: labels are read; a malicious pickle is rejected and never executed."""

import collections
import contextlib
import copyreg
import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile_pickles import ARMED
from mnsa.data.formats.pickled_labels import MAX_BYTES, read_pickled_labels
from mnsa.errors import DataError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
INTEGERS: tuple[type[np.integer], ...] = (
    np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.longlong
)  # fmt: skip


def numpy_integers(least: int) -> st.SearchStrategy[np.integer]:
    def drawn(kind: type[np.integer]) -> st.SearchStrategy[np.integer]:
        limits = np.iinfo(kind)
        return st.integers(max(least, int(limits.min)), int(limits.max)).map(kind)

    return st.sampled_from(INTEGERS).flatmap(drawn)


keys = st.text(max_size=300) | st.integers(-(2**63), 2**64 - 1) | numpy_integers(-(2**63))
tables = st.dictionaries(keys, st.integers(1, 2**64 - 1) | numpy_integers(1), max_size=30)
protocols = st.sampled_from(PROTOCOLS)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[int | str, int]]:
    """Write a pickle and read its labels."""
    path = tmp_path_factory.mktemp("labels") / "labels.pkl"

    def run(program: bytes) -> dict[int | str, int]:
        path.write_bytes(program)
        return read_pickled_labels(path)

    return run


@given(tables, protocols)
def test_pickled_labels_are_read_as_plain_integers_and_text(
    read: Callable[..., dict[int | str, int]],
    table: dict[str | int | np.integer[Any], int | np.integer[Any]],
    protocol: int,
) -> None:
    labels = read(pickle.dumps(table, protocol))
    assert labels == table
    assert {type(key) for key in labels} <= {int, str}
    assert {type(label) for label in labels.values()} <= {int}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_thousands_of_labels_are_read(read: Callable[..., dict[int | str, int]], protocol: int) -> None:
    table = {np.int64(n): np.int64(n % 200 + 1) for n in range(3000)}
    assert read(pickle.dumps(table, protocol)) == table
    assert read(pickle.dumps({}, protocol)) == {}


def scalar(module: bytes, code: bytes, order: bytes, data: bytes) -> bytes:
    """The instructions of a numpy scalar, as Python 2 wrote them."""
    dtype = b"cnumpy\ndtype\nU%c%sK\x00K\x01\x87R(K\x03U\x01%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    name, words = b"c%s\nscalar\n" % module, dtype % (len(code), code, order)
    return name + words + b"U%c%s\x86R" % (len(data), data)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize(
    ("code", "order", "data"),
    [(b"i4", b">", b"\0\0\x03\xe8"), (b"i4", b"<", b"\xe8\x03\0\0"), (b"u8", b">", b"\xff" * 8), (b"i1", b"|", b"\7")],
)
@pytest.mark.filterwarnings("ignore:numpy.core.multiarray:DeprecationWarning")
def test_integers_of_old_pythons_and_other_byte_orders_are_read_as_in_numpy(
    read: Callable[..., dict[int | str, int]], module: bytes, code: bytes, order: bytes, data: bytes
) -> None:
    program = b"\x80\x02}U\x05a.jpg" + scalar(module, code, order, data) + b"s."
    assert read(program) == pickle.loads(program, encoding="latin1")


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stay in a folder of its own; the extension registry, which EXT1 reads, holds os.mkdir meanwhile."""
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "mkdir", 0x63)
    yield tmp_path
    copyreg.remove_extension("os", "mkdir", 0x63)


@pytest.mark.parametrize("name", [name for name in ARMED if name not in {"a name with dots", "a registered class"}])
@pytest.mark.filterwarnings("ignore:numpy.core.multiarray:DeprecationWarning")
def test_the_malicious_pickles_of_these_tests_work_when_they_are_unpickled(in_empty_folder: Path, name: str) -> None:
    with contextlib.suppress(Exception):  # some fail, after the harm is done
        pickle.loads(ARMED[name][0])
    assert Path("ran").is_dir()


@pytest.mark.parametrize("name", ARMED)
def test_a_malicious_pickle_is_rejected_with_its_reason_and_not_executed(
    read: Callable[..., dict[int | str, int]], in_empty_folder: Path, name: str
) -> None:
    program, reason = ARMED[name]
    with pytest.raises(DataError, match=rf"labels\.pkl .*{reason}.*no code in it was run"):
        read(program)
    assert list(in_empty_folder.iterdir()) == []


class PicklerOfReferences(pickle.Pickler):
    """Leaves one value elsewhere."""

    def persistent_id(self, value: object) -> str | None:
        return "somewhere else" if value == 5 else None


def with_persistent_id() -> bytes:
    stream = io.BytesIO()
    PicklerOfReferences(stream).dump({1: 5})
    return stream.getvalue()


SELF = b"}q\x00K\x01h\x00s."
OBJECT = scalar(b"numpy.core.multiarray", b"O8", b"|", b"\0" * 8)
INVALID = {
    "persistent id": (with_persistent_id(), "instruction BINPERSID"),
    "persistent id as text": (b"Psomewhere\n.", r"instruction PERSID \('somewhere'\)"),
    "object dtype": (b"}K\x01" + OBJECT + b"s.", "calls numpy.dtype with .'O8'"),
    "text dtype": (b"}K\x01" + OBJECT.replace(b"O8", b"U2") + b"s.", "calls numpy.dtype with .'U2'"),
    "bool dtype": (pickle.dumps({1: np.bool_(True)}), "calls numpy.dtype with .'b1'"),
    "float dtype": (pickle.dumps({1: np.float64(1)}), "calls numpy.dtype with .'f8'"),
    "too few bytes": (b"}K\x01" + scalar(b"numpy.core.multiarray", b"i4", b"<", b"\1") + b"s.", "i4 in 1 bytes"),
    "a number called": (b"}K\x01K\x05K\x06\x85Rs.", "instruction TUPLE1"),
    "a name alone": (b"}K\x01cnumpy\ndtype\ns.", "the label numpy.dtype"),
    "a state for a name": (b"cnumpy\ndtype\n}b.", "sets the state of numpy.dtype"),
    "a state for a dict": (b"}}b.", "sets the state of {}"),
    "numpy array": (pickle.dumps(np.arange(3)), "'numpy._core.multiarray'.'_reconstruct'"),
    "list": (pickle.dumps([1, 2]), "instruction EMPTY_LIST"),
    "number": (pickle.dumps(5), "holds 5, which is no dict"),
    "text with an odd escape": (b"S'\\q'\n.", "which is no dict"),
    "ordered dict": (pickle.dumps(collections.OrderedDict({1: 1})), "'collections'.'OrderedDict'"),
    "items of a number": (b"K\x01K\x02K\x03s.", "items of 1, which is no dict"),
    "bool": (pickle.dumps({1: True}), "gives 1 the label True"),
    "float": (pickle.dumps({1: 1.0}), "instruction BINFLOAT"),
    "text": (pickle.dumps({1: "1"}), "gives 1 the label '1'"),
    "none": (pickle.dumps({"a.jpg": None}), "gives 'a.jpg' the label None"),
    "zero": (pickle.dumps({1: 1, 2: 0}), "gives 2 the label 0"),
    "negative": (pickle.dumps({1: np.int32(-3)}), "gives 1 the label -3"),
    "nested": (pickle.dumps({1: {1: 1}}), "the label {1: 1}"),
    "itself": (SELF, r"gives 1 the label {}"),
    "itself as a key": (b"}q\x00h\x00K\x01s.", "holds the key {}"),
    "bool key": (pickle.dumps({True: 1}), "holds the key True"),
    "bytes key": (pickle.dumps({b"1": 1}), "holds the key b'1'"),
    "tuple key": (pickle.dumps({(1, 2): 1}), r"holds the key \(1, 2\)"),
    "key twice": (b"}K\x01K\x01sK\x01K\x02s.", "holds the key 1, .*occurs twice"),
    "wide number": (pickle.dumps({1: 2**64}), "whole number of 65 bits"),
    "long number": (pickle.dumps({1: 1 << 9000}), "instruction LONG4"),
    "long number as text": (b"I" + b"9" * 4000 + b"\n.", "whole number of 13,288 bits"),
    "endless number as text": (b"I" + b"9" * 9000 + b"\n.", "broken pickle"),
    "more bytes than there are": (b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"a.", "broken pickle"),
    "a key without label": (b"}(K\x01u.", "broken pickle"),
    "memo that is not there": (b"h\x05.", "broken pickle"),
    "empty stack": (b".", "broken pickle"),
    "no mark": (b"}K\x01K\x01u.", "broken pickle"),
    "no pickle": (b"\0\1\2", "broken pickle"),
    "nothing": (b"", r"is empty \(0 bytes\)"),
}


@pytest.mark.parametrize("name", INVALID)
def test_other_values_than_a_dict_of_labels_are_rejected_with_their_content(
    read: Callable[..., dict[int | str, int]], name: str
) -> None:
    program, reason = INVALID[name]
    with pytest.raises(DataError, match=rf"labels\.pkl .*{reason}.*Expected a pickled dict"):
        read(program)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_file_is_rejected_wherever_it_ends(
    read: Callable[..., dict[int | str, int]], protocol: int
) -> None:
    program = pickle.dumps({1: np.int64(3), "b.jpg": 4}, protocol)
    for end in range(len(program)):
        with pytest.raises(DataError):
            read(program[:end])


@given(tables, protocols, st.data())
def test_a_damaged_file_is_read_or_rejected(
    read: Callable[..., dict[int | str, int]],
    table: dict[str | int | np.integer[Any], int | np.integer[Any]],
    protocol: int,
    data: st.DataObject,
) -> None:
    program = bytearray(pickle.dumps(table, protocol))
    for place, byte in data.draw(
        st.dictionaries(st.integers(0, len(program) - 1), st.integers(0, 255), max_size=4)
    ).items():
        program[place] = byte
    try:
        labels = read(bytes(program))
    except DataError:
        return
    assert all(type(key) in (int, str) and type(label) is int and label > 0 for key, label in labels.items())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_rejected(read: Callable[..., dict[int | str, int]], program: bytes) -> None:
    with contextlib.suppress(DataError):
        assert isinstance(read(program), dict)


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "labels.pkl").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"has 4,194,305 bytes; at most 4,194,304 are read"):
        read_pickled_labels(tmp_path / "labels.pkl")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*labels\.pkl"):
        read_pickled_labels(tmp_path / "labels.pkl")
    with pytest.raises(DataError, match="can't be read"):
        read_pickled_labels(tmp_path)


@pytest.mark.parametrize(
    "program",
    [b"}" * 50_000, b"(" * 50_000, b"}" + b"\x94" * 50_000, b"N" + b"N\x86" * 25_000, b"}r\xff\xff\xff\x7f" * 9000],
    ids=["dicts", "marks", "memo", "depth", "far memo"],
)
def test_a_small_file_can_not_fill_the_memory(read: Callable[..., dict[int | str, int]], program: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(DataError):
        read(program + b".")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * len(program)
