"""Suites, studies and `--set`: as text, as documents, and through the whole plan."""

from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st

from benchmark.commands import agenda
from benchmark.planning import suite
from benchmark.planning.document import load
from studies import holes
from tests.fuzz.mutations import bent, reshaped

SUITES = {path.stem: path.read_text("utf-8") for path in sorted(suite.SUITES.glob("*.yaml"))}
STUDIES = {path.stem: path.read_text("utf-8") for path in sorted(holes.STUDIES.glob("*.yaml"))}
TOKENS = (
    *("&a ", "*a", "*heads", "<<: *a", "<<", "[", "]", "{", "}", ": ", "- ", "? ", "| ", "> "),
    *(">>", "@", "'", '"', "#", "!!binary eA==", "!!set {a}", "!!omap [a: 1]", "!x ", "%YAML 9\n"),
    *("!!python/object/apply:os.system ['exit 1'] ", "!!python/name:os.system ", "---\n", "...\n"),
    *("9" * 30, "0x" + "f" * 40, "1e400", "-1", ".inf", ".nan", "~", "yes", "off", "2026-13-45"),
    *('"\\ud800"', '"\\0"', "\x00", "\t", "\u202e", "\ufeff", "1:2:3", "[[1]]", "psc > ", "null"),
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 0.5, -0.0, 1e-320, 1e308, 10**7, 2**31, 2**63 - 1])
WORDS = st.sampled_from(
    [
        *("psc", "etf", "dl2pa", "psc > ncm", "psc >> etf@quick", ">", "digits", "sphere", "quick"),
        *("resnet32", "small_cnn", "flat", "image_folder", "../..", "/etc", "", "nan", "1e-4", "@"),
        *("untrained", "a" * 300, "\u202eabc", "released", "random", "cosine", "crop", "step"),
    ]
)
VALUES = st.recursive(
    NUMBERS | WORDS | st.none() | st.booleans() | st.text(max_size=4) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
SMALL = """\
- data: {name: digits, ratio: 10, largest: 20}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 1}}
  head: [HEAD]
  seeds: [0, {backbone: 0, head: 1, order: 2, augment: 3}]
"""
HEADS = (
    *("psc: {dim: 8, uniformity: 0.1}", "dl2pa: {dim: 16, momentum: 0.9, assignment: fixed}"),
    *(
        "etf: {dim: 16, batch_norm: false}",
        "hpn: {dim: 5, reduction: half_mean}",
        "ride: {experts: 2}",
    ),
    *("fixed: {points: energy, dim: 8}", "focal: {gamma: 1.0}", "ldam: {deferred: true}", "paco"),
    *("[psc, {prototypes: {distance: cosine, adjust: 0.5}}]", "[psc, {ncm: {transform: l2n}}]"),
    *("[psc, {logit_adjustment: {form: post_hoc}}]", "psc > tau_norm", "psc >> dro_lt > crt@quick"),
    *("psc > max_norm", "psc > disalign", "balanced_softmax", "one_hot", "goto", "dnc", "ebv"),
    *("kasarla", "word2vec"),
)
BLOCKS = tuple(
    yaml.safe_load(
        SMALL.replace("HEAD", head if head[0] == "[" or ":" not in head else f"{{{head}}}")
    )
    for head in HEADS
)


@pytest.fixture
def file(tmp_path):
    """Give a function (text): the path of such a file."""

    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return str(path)

    return write


@pytest.fixture
def planned(file, tmp_path):
    """Give a function (text, changes): everything that is looked at before anything is trained."""

    def plan(text, changes=()):
        found = agenda.read(
            *(file(text), changes, [], tmp_path / "runs", tmp_path), skip_missing=True, load=False
        )
        for item in found.items:  # what is accepted can be named, written, and read back
            assert item.cell.label.isprintable() or "\\" in ascii(item.cell.label)
            assert type(item.cell).from_json(item.cell.to_json()).key == item.cell.key

    return plan


def test_any_bytes(fuzz, tmp_path):
    path = tmp_path / "mine.yaml"

    def read(content):
        path.write_bytes(content)
        suite.read(str(path))

    fuzz(st.binary(max_size=200), read)


def test_shipped_suites_bent(fuzz, file):
    fuzz(bent(list(SUITES.values()), TOKENS), lambda text: suite.read(file(text)), 60)


def test_shipped_studies_bent(fuzz, file):
    def read(text):
        study = holes.read(file(text))
        if study.search is None:
            study.filled()

    fuzz(bent(list(STUDIES.values()), TOKENS), read, 40)


def test_blocks_reshaped_and_planned(fuzz, planned):
    strategy = st.sampled_from(BLOCKS).flatmap(lambda block: reshaped(block, VALUES))
    fuzz(strategy, lambda blocks: planned(yaml.safe_dump(blocks, allow_unicode=True)), 60)


def test_studies_reshaped(fuzz, file):
    shapes = [yaml.safe_load(text) for text in STUDIES.values()]

    def read(blocks):
        holes.read(file(yaml.safe_dump(blocks)))

    fuzz(st.sampled_from(shapes).flatmap(lambda blocks: reshaped(blocks, VALUES)), read)


FIELDS = (
    *("data", "data.name", "data.ratio", "data.folder", "data.classes", "backbone", "recipe"),
    *(
        "backbone.channels",
        "recipe.epochs",
        "recipe.quick.lr",
        "recipe.milestones",
        "head",
        "seeds",
    ),
    *("head.psc.dim", "head.psc.uniformity", "recipe.size", "", ".", "head.", "a.b.c.d", "search"),
)


def test_any_change(fuzz, planned):
    text = SMALL.replace("HEAD", "psc: {dim: 8}")
    value = VALUES.map(lambda v: yaml.safe_dump(v, default_flow_style=True, width=10**6).strip())
    changes = st.tuples(
        st.sampled_from(FIELDS) | st.text(max_size=10),
        value | st.text(max_size=10) | st.sampled_from(TOKENS),
    )
    fuzz(
        st.lists(changes.map("=".join) | st.text(max_size=10), min_size=1, max_size=3),
        lambda several: planned(text, several),
    )


def test_any_name(fuzz):
    long = st.sampled_from(["a" * 300 + ".yaml", "a" * 400, "\0.yaml", "..", "/", "~.yaml"])
    name = long | st.text(max_size=20) | st.text(max_size=8).map(lambda s: s + ".yaml")
    fuzz(name, lambda name: suite.read(name))
    fuzz(name, lambda name: holes.read(name))


# what stands here is refused by name, in no time


LAUGHS = "".join(f"- &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(9))
MERGED = "".join(
    f"- &{chr(98 + k)} {{<<: [{','.join(['*' + chr(97 + k)] * 10)}]}}\n" for k in range(9)
)
GRID = ", ".join(f"a{k}: [1, 2, 3, 4, 5, 6, 7, 8, 9]" for k in range(12))
BOMBS = {
    "laughs": ("- &a [x, x, x, x, x, x, x, x, x, x]\n" + LAUGHS, "more than 30,000 values"),
    "merged": ("- &a {x: 1}\n" + MERGED, "more than 30,000 values"),
    "deep": ("[" * 50_000, "nested more than 24 levels"),
    "itself": ("- &a [*a]\n", "contains itself"),
    "long": ("#" * 200_000, "at most 100,000 are read"),
    "base 60": (f"- {':'.join(['59'] * 30_000)}\n", "more than 400 characters"),
    "digits": (f"- {'9' * 60}\n", "more than 64 bits"),
    "control": ('- "a\\0b"\n', "control character '\\x00'"),
    "surrogate": ('- "\\ud800"\n', "control character '\\ud800'"),
    "python": ("- !!python/object/apply:os.system ['exit 1']\n", "could not determine"),
    "product": (SMALL.replace("HEAD", f"psc: {{{GRID}}}"), "more than 10,000 cells"),
    "seeds": (f"{SMALL.split('  seeds')[0]}  seeds: {[*range(10_001)]}\n", "more than 10,000"),
    "pipe": (SMALL.replace("[HEAD]", ">".join(["psc"] * 40)), "at most 12"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_named(soon, file, name):
    text, part = BOMBS[name]
    with pytest.raises(ValueError) as error:
        suite.read(file(text))
    assert part in str(error.value) and "mine.yaml" in str(error.value)


TWICE = {
    "a block": (SMALL.replace("HEAD", "psc") + "  seeds: [1]\n", "'seeds'", 6),
    "data": (SMALL.replace("HEAD", "psc").replace("{name", "{ratio: 2, name"), "'ratio'", 1),
    "a head": (SMALL.replace("HEAD", "psc: {dim: 8, dim: 9}"), "'dim'", 4),
    "two heads": (
        "- {data: digits, backbone: b, recipe: r, seeds: 0, head: {psc: , psc: }}",
        "'psc'",
        1,
    ),
    "quoted": ('- {data: digits, "data": digits}', "'data'", 1),
    "merges": ("- &a {x: 1}\n- &b {y: 1}\n- {<<: *a, <<: *b}", "'<<'", 3),
}


@pytest.mark.parametrize("where", TWICE)
def test_a_key_that_stands_twice_is_named(file, where):
    text, key, line = TWICE[where]
    with pytest.raises(ValueError, match=f"line {line} is not YAML .*key {key} stands twice"):
        suite.read(file(text))


def test_a_key_that_stands_twice_in_a_change_is_named(file):
    with pytest.raises(ValueError, match=r"--set .*the key 'name' stands twice"):
        suite.read(file(SMALL.replace("HEAD", "psc")), ["data={name: a, name: b}"])


def test_anchors_and_merge_keys_work(file):
    text = "- &first\n  " + SMALL.replace("HEAD", "psc")[2:]
    text += "- {<<: *first, head: etf, seeds: [5]}\n- {<<: [*first, {seeds: [9]}]}\n"
    blocks = load(Path(file(text)).read_text())
    assert blocks == yaml.safe_load(text)
    assert blocks[1]["seeds"] == [5] and blocks[1]["data"] is blocks[0]["data"]
    assert len(suite.read(file(text)).cells) == 3


def test_the_reader_agrees_with_yaml_on_all_that_is_shipped():
    for text in (*SUITES.values(), *STUDIES.values()):
        assert load(text) == yaml.safe_load(text)
