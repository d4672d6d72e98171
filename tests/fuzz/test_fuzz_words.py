"""Files of word vectors: .npy, the binary and the text form of word2vec, GloVe."""

import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import strategies as st

from datasets.words import WIDEST, read
from tests.fuzz.mutations import damaged

NAMES = ("apple", "aquarium_fish", "Paris")
WORDS = ("the", "apple", "fish", "aquarium", "paris")
TOKENS = (b" ", b"\n", b"\r\n", b"\t", b"nan", b"1e999", b"99999999999 3\n", b"3 99999999999999\n")


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npy_of(header, version=b"\x01\x00", content=b""):
    """A .npy file with this text as its header."""
    text = header.encode("latin1", "replace")
    form = "<H" if version == b"\x01\x00" else "<I"
    length = struct.pack(form, len(text) & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    return b"\x93NUMPY" + version + length + text + content


def header(shape, kind="'<f4'"):
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"


class Touch:
    """Pickled: calls open() when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


TEXT = "".join(f"{word} {k} 1.5 -2\n" for k, word in enumerate(WORDS)).encode()
BINARY = b"5 3\n" + b"".join(w.encode() + b" " + struct.pack("<3f", 1, 2, 3) for w in WORDS)
FORMS = {
    ".npy": [npy(np.ones((3, 4), kind)) for kind in ("f4", ">f8", "i2", "c8", "U3", "M8[s]", "?")],
    ".bin": [BINARY, BINARY.replace(b"5 3", b"5 3000"), BINARY.replace(b"5 3", b"99999 3")],
    ".txt": [TEXT, b"5 3\n" + TEXT, b"9 3\n" + TEXT, TEXT.replace(b"\n", b" \r\n")],
}
HEADERS = (
    *(header(shape) for shape in ("(3, 4)", "(3, 10**12)", "(3, -4)", "(3, 4611686018427387904)")),
    *(
        header(shape)
        for shape in ("()", "(3,)", "3", "('a', 4)", "(3, 4.0)", "(3, None)", "(True, 4)")
    ),
    *(
        header("(3, 4)", kind)
        for kind in ("'O'", "'|V8'", "[('a', '<f4')]", "None", "'<f400'", "()")
    ),
    *(header(f"(3, {'9' * 400})"), header("[" * 300), header("(" * 300 + ")" * 300), "{}", "\x00"),
    *(
        "__import__('os').system('exit 1')",
        "{'a': 1}",
        "{1: 2}",
        "3",
        "{'descr': ",
        "'" * 50,
        "\t\n x",
    ),
)


@pytest.fixture
def look(tmp_path):
    """Give a function (suffix, content): what `read` says of such a file."""

    def read_it(suffix, content):
        path = tmp_path / f"v{suffix}"
        path.write_bytes(content)
        return read(path, NAMES)

    return read_it


@pytest.mark.parametrize("suffix", FORMS)
def test_word_vectors_damaged(fuzz, look, suffix):
    fuzz(damaged(FORMS[suffix]), lambda content: look(suffix, content), 60)


@pytest.mark.parametrize("suffix", FORMS)
def test_word_vectors_of_any_bytes(fuzz, look, suffix):
    pieces = st.lists(st.binary(max_size=8) | st.sampled_from([*TOKENS, b"apple ", b"fish "]))
    fuzz(pieces.map(b"".join), lambda content: look(suffix, content))


def test_headers_of_arrays(fuzz, look):
    text = st.sampled_from(HEADERS) | st.text(max_size=60)
    version = st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\xff\xff"])
    strategy = st.tuples(text, version, st.binary(max_size=64))
    fuzz(strategy, lambda parts: look(".npy", npy_of(*parts)), 80)


def test_any_class_names(fuzz, tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(TEXT)
    names = st.text(max_size=8) | st.binary(max_size=8).map(
        lambda b: b.decode(errors="surrogateescape")
    )
    fuzz(st.lists(names, min_size=1, max_size=3), lambda found: read(path, tuple(found)))


def test_objects_in_an_array_are_never_unpickled(look, tmp_path):
    array = np.empty((3, 1), object)
    array[:] = Touch(tmp_path / "touched")
    for content in (
        npy(array, allow_pickle=True),
        pickle.dumps(array),
        npy_of(header("(3, 1)", "'O'")),
    ):
        with pytest.raises(ValueError, match="not a whole .npy file of numbers"):
            look(".npy", content)
    assert not (tmp_path / "touched").exists()


def test_vectors_wider_than_any_are_refused_before_they_are_read(look):
    wide = f"at most {WIDEST:,} are read"
    with pytest.raises(ValueError, match=wide):
        look(".npy", npy(np.ones((3, WIDEST + 1), "i1")))
    for suffix in (".bin", ".txt"):
        with pytest.raises(ValueError, match=wide):
            look(suffix, b"5 99999999999\n" + TEXT)
    with pytest.raises(ValueError, match="line 2 has more than 1,048,576 bytes"):
        look(".txt", TEXT.splitlines(keepends=True)[0] + b"x " * (1 << 20))


def test_a_name_that_no_file_can_have():
    for name in ("a" * 300, "a\0b"):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(name, NAMES)
