"""Word vectors from files of every form, and what is said when something is wrong."""

import struct
import warnings

import numpy as np
import pytest
import torch

from datasets import MissingData
from datasets.words import read

VECTORS = {
    "the": (9.0, 9.0, 9.0),
    "apple @mail": (7.0, 7.0, 7.0),
    "apple": (1.0, 0.0, 2.0),
    "fish": (0.0, 4.0, 0.0),
    "Fish": (0.0, 0.0, 8.0),
    "aquarium": (2.0, 0.0, -2.0),
    "paris": (0.5, 0.25, 0.125),
}
NAMES = ("apple", "aquarium_fish", "Paris")
EXPECTED = torch.tensor([[1.0, 0.0, 2.0], [1.0, 2.0, -1.0], [0.5, 0.25, 0.125]])


def text(vectors, header=False):
    lines = [" ".join([word, *map(str, numbers)]) for word, numbers in vectors.items()]
    return "\n".join([*([f"{len(vectors)} 3"] if header else []), *lines, ""])


def binary(vectors, end=b""):
    head = f"{len(vectors)} 3\n".encode()
    return head + b"".join(
        word.encode() + b" " + struct.pack("<3f", *numbers) + end
        for word, numbers in vectors.items()
    )


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


PLAIN = {word: numbers for word, numbers in VECTORS.items() if " " not in word}
FORMS = {
    "glove.txt": text(PLAIN),
    "glove.840B.txt": text(VECTORS),  # one of whose words has a space in it
    "w2v.vec": text(PLAIN, header=True),
    "crlf.txt": text(PLAIN, header=True).replace("\n", " \r\n"),
    "google.bin": binary(PLAIN),
    "original.bin": binary(PLAIN, end=b"\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same(tmp_path, name):
    vectors = read(write(tmp_path / name, FORMS[name]), NAMES)
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, EXPECTED)


@pytest.mark.parametrize("dtype", ["float32", ">f8", "int16", "float16"])
def test_array_in_label_order(tmp_path, dtype):
    rows = np.array([[1, 2], [3, 4], [0, -5]]).astype(dtype)
    np.save(tmp_path / "v.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = read(tmp_path / "v.npy", NAMES)
    assert vectors.dtype == torch.float32 and vectors.tolist() == rows.tolist()


def test_as_written_comes_before_lower_case_wherever_it_stands(tmp_path):
    for order in (PLAIN, dict(reversed(PLAIN.items()))):
        path = write(tmp_path / "v.txt", text(order))
        assert read(path, ("Fish",)).tolist() == [[0.0, 0.0, 8.0]]
        assert read(path, ("FISH",)).tolist() == [[0.0, 4.0, 0.0]]


def test_the_first_of_two_counts(tmp_path):
    path = write(tmp_path / "v.txt", "a 1 2\nb 3 4\na 5 6\nc 7 8\n")
    assert read(path, ("a", "c")).tolist() == [[1, 2], [7, 8]]


def test_names_are_split_at_underscore_hyphen_and_space(tmp_path):
    path = write(tmp_path / "v.txt", "a 1 2\nb 3 6\n")
    assert read(path, ("a_b", "a-b", " a b", "b__a_a")).tolist() == [
        *[[2.0, 4.0]] * 3,
        pytest.approx([5 / 3, 10 / 3]),
    ]


def test_words_beyond_ascii(tmp_path):
    for name, content in (
        ("v.txt", text({"café": (1, 2, 3)})),
        ("v.bin", binary({"café": (1, 2, 3)})),
    ):
        assert read(write(tmp_path / name, content), ("Café",)).tolist() == [[1, 2, 3]]


def test_reading_stops_at_the_last_word_that_is_needed(tmp_path):
    path = write(tmp_path / "v.txt", text(PLAIN) + "apple 1\n")
    assert torch.equal(read(path, ("apple", "paris")), EXPECTED[[0, 2]])


def test_long_binary_words_and_gaps(tmp_path):
    """Spaces and new lines among the bytes of the numbers do not lead astray."""
    odd = struct.unpack("<3f", b"  \n   \n  \n ?")
    path = write(tmp_path / "v.bin", binary({"x" * 5000: odd, "b": odd, "apple": (1, 2, 3)}))
    assert read(path, ("apple", "b"))[0].tolist() == [1, 2, 3]
    assert read(path, ("b",))[0].tolist() == list(odd)


def test_binary_vectors_across_the_chunks_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.words.CHUNK", 7)
    for end in (b"", b"\n"):
        path = write(tmp_path / "v.bin", binary(PLAIN, end))
        assert torch.equal(read(path, NAMES), EXPECTED)


def test_all_missing_words_are_named(tmp_path):
    for name, content in FORMS.items():
        with pytest.raises(ValueError, match=r"no vector for 3 of 5 words .*: sea, Lion, ray\. "):
            read(write(tmp_path / name, content), ("sea_Lion", "apple", "ray", "fish", "sea"))


WRONG = {
    "empty.txt": ("", "does not begin with a word and its numbers"),
    "empty.bin": (b"", "does not begin with a word and its numbers"),
    "one.txt": ("apple\n", "does not begin with a word and its numbers"),
    "image.txt": (bytes(2 << 20), "does not begin with a word and its numbers"),
    "prose.txt": ("It was a dark night\n", "line of 'It' holds something that is not a number"),
    "really_binary.txt": (binary(PLAIN), "line of 'the' "),
    "narrow.txt": (text(PLAIN) + "zoo 1.0 2.0\n", "line of 'zoo' has 2 numbers instead of 3"),
    "wide.txt": (text(PLAIN) + "zoo 1 2 3 4\n", "line of 'zoo' has 4 numbers instead of 3"),
    "bare.txt": (text(PLAIN) + "zoo\n", "line of 'zoo' has 0 numbers instead of 3"),
    "letters.txt": (text(PLAIN) + "zoo 1 2 x\n", "'zoo' holds something that is not a number"),
    "nan.txt": (text(PLAIN) + "zoo 1 2 nan\n", "vector of class 'zoo' in .* is not finite"),
    "large.txt": (text(PLAIN) + "zoo 1 2 1e300\n", "vector of class 'zoo' in .* is not finite"),
    "zero.txt": (text(PLAIN) + "zoo 0 0 0\n", "vector of class 'zoo' in .* is zero"),
    "short.txt": (text(PLAIN, header=True)[: -len("paris 0.5 0.25 0.125\n")], "truncated: 5 of 6"),
    "short.bin": (binary(PLAIN)[:-1], "truncated: 5 of 6 are there"),
    "none.bin": (b"6 3\n", "truncated: 0 of 6"),
    "text.bin": (text(PLAIN), "binary form of word2vec begins with 'count dim'"),
    "wordless.bin": (b"6 3\n" + bytes(1 << 15), "where word 1 of 6 should be, there is none"),
    "nan.bin": (
        binary(PLAIN | {"zoo": (1, 2, float("nan"))}),
        "vector of class 'zoo' in .* is not finite",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(tmp_path, name):
    content, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as error:
        read(write(tmp_path / name, content), ("apple", "zoo"))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_words_that_cancel_have_no_direction(tmp_path):
    path = write(tmp_path / "v.txt", "a 1 2\nb -1 -2\n")
    with pytest.raises(ValueError, match="class 'a_b' in .* is zero"):
        read(path, ("a", "a_b"))


@pytest.mark.parametrize(
    "rows, said",
    [
        (np.ones((4, 2)), r"have shape \(4, 2\). Give one row for each of the 3 classes"),
        (np.ones(3), r"have shape \(3,\)"),
        (np.array([["a", "b"]] * 3), "have type <U1, which is not numeric"),
        (np.ones((3, 2), dtype=bool), "have type bool, which is not numeric"),
        (np.ones((3, 2)) * 1j, "have type complex128, which is not numeric"),
        (np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0]]), "class 'aquarium_fish' .* is zero"),
        (np.array([[1.0, 2.0], [1.0, 0.0], [1.0, np.inf]]), "class 'Paris' .* is not finite"),
        (np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1e300]]), "class 'Paris' .* is not finite"),
    ],
)
def test_wrong_arrays(tmp_path, rows, said):
    np.save(tmp_path / "v.npy", rows)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "v.npy", NAMES)


def test_arrays_that_are_none(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    whole = (tmp_path / "v.npy").read_bytes()
    with (tmp_path / "archive").open("wb") as file:
        np.savez(file, np.ones((3, 2)))
    np.save(tmp_path / "object.npy", np.array([None]), allow_pickle=True)
    parts = [whole[:-1], whole[:40], b"", (tmp_path / "archive").read_bytes()]
    for content in [*parts, (tmp_path / "object.npy").read_bytes()]:
        path = write(tmp_path / "cut.npy", content)
        with pytest.raises(ValueError, match="not a whole .npy file of numbers"):
            read(path, NAMES)


def test_no_file(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(MissingData, match="no word vectors: there is no file"):
            read(path, NAMES)
