"""Nothing that a name may hold can break a table."""

import pytest
from pylatexenc.latex2text import LatexNodes2Text

from reports import latex


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("my_head&50%#{}", r"my\_head\&50\%\#\{\}"),
        ("psc > ncm", "psc $>$ ncm"),
        ("a\\b~c^d$e", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\$e"),
        ("1 ± 2 · 3 – 4 †", r"1 $\pm$ 2 $\cdot$ 3 -- 4 $\dagger$"),
        ("café 猫", "cafe ?"),
        ("％", r"\%"),  # full width, which decomposes to a comment
    ],
)
def test_escape(text, told):
    assert latex.escape(text) == told
    assert told.isascii()


def test_escaped_text_reads_back():
    text = "my_head&50%#{} 1 ± 2"
    assert LatexNodes2Text().latex_to_text(latex.escape(text)) == text


def test_every_printable_character_is_ascii_afterwards():
    assert latex.escape("".join(map(chr, range(1, 0x3000)))).isascii()
