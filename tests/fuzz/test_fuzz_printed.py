"""The papers' numbers as files: cut, bent, with cells that no paper printed."""

import pytest
from hypothesis import strategies as st

from reports import printed
from tests.fuzz.mutations import bent, damaged

CONTENT = {name: (printed.FOLDER / name).read_bytes() for name in printed.FILES.values()}
FEW = {name: b"".join(content.splitlines(True)[:6]) for name, content in CONTENT.items()}
TOKENS = (
    *(",", '"', '""', "\n", "\r", "\x00", ";", "\t", "accuracy", "1e999", "nan", "inf", "-", "1,5"),
    *("9" * 400, "\u202e", "\ufeff", "table,", ",value", "yes", "0x10", "١٢"),
)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Give a function (paper, content): what is read where that file says this."""
    monkeypatch.setattr(printed, "FOLDER", tmp_path)

    def read(paper, content):
        (tmp_path / printed.FILES[paper]).write_bytes(content)
        frame = printed.printed(paper)
        assert {"value", "truth", "half", "text"} <= set(frame.columns)

    return read


@pytest.mark.parametrize("paper", printed.FILES)
def test_published_damaged(fuzz, told, paper):
    seeds = [FEW[printed.FILES[paper]], CONTENT[printed.FILES[paper]]]
    fuzz(damaged(seeds), lambda content: told(paper, content), 40)


@pytest.mark.parametrize("paper", printed.FILES)
def test_published_bent(fuzz, told, paper):
    seeds = [FEW[printed.FILES[paper]].decode()]
    text = bent(seeds, TOKENS) | st.lists(st.sampled_from(TOKENS)).map("".join)
    fuzz(
        text.map(lambda t: t.encode(errors="surrogatepass")),
        lambda content: told(paper, content),
        40,
    )


def test_any_paper(fuzz):
    fuzz(st.text(max_size=12), printed.printed)
