"""Heads as text: options, defaults, stars."""

import inspect

import pytest

from heads import HEADS
from reports.methods import DEFAULTS, canonical, fits, options, recipes, stated


@pytest.mark.parametrize(
    ("head", "pattern", "fitting"),
    [
        ("psc", "psc", True),
        ("psc projection=needed", "psc", True),  # a default that is written out
        ("psc projection=always", "psc", False),
        ("psc projection=always", "psc projection=*", True),
        ("psc", "psc projection=*", True),
        ("psc uniformity=0.01", "psc projection=*", False),
        ("psc cosine=True scale=1", "psc cosine=True scale=1 *", True),
        ("psc cosine=True scale=1 projection=always", "psc cosine=True scale=1 *", True),
        ("psc cosine=True", "psc cosine=True scale=1 *", False),
        ("psc > ncm", "psc", False),
        ("psc > ncm", "psc > ncm", True),
        ("psc > ncm transform=none", "psc > ncm", True),
        ("psc >> ncm", "psc > ncm", False),
        ("psc > ncm", "psc > crt", False),
        ("psc >> dro_lt > crt", "psc > crt", False),
        ("psc >> dro_lt temperature=2 > crt", "psc >> dro_lt * > crt", True),
        ("psc >> dro_lt > crt", "psc >> dro_lt * > crt", True),
        ("psc dim=50 > ncm", "psc > ncm *", False),  # a star is for its own stage
        ("psc > prototypes adjust=0", "psc > prototypes", False),
        ("psc > prototypes adjust=0.25", "psc > prototypes", True),
        ("psc > prototypes prototype_lr=4.2", "psc > prototypes prototype_lr=*", True),
        ("psc_like", "psc", False),
        ("fixed", "fixed points=energy scale=*", True),
        ("fixed scale=16", "fixed points=energy scale=*", True),
        ("fixed points=random", "fixed points=energy *", False),
        ("dl2pa prototypes=random", "dl2pa prototypes=spread *", False),
        ("dl2pa reduction=sum", "dl2pa prototypes=spread *", True),
        ("word2vec words=mine.npy", "word2vec *", True),
    ],
)
def test_fits(head, pattern, fitting):
    assert fits(head, pattern) is fitting


def test_options_leave_defaults_out():
    assert options("dl2pa assignment=dynamic reduction=sum") == {"reduction": "sum"}
    assert stated("dl2pa reduction=sum") == ("dl2pa", {"reduction": "sum"})


def test_every_stage_of_a_pipe_has_its_defaults():
    head = "psc scale=30 >> dro_lt > prototypes temperatures=True adjust=0"
    assert canonical(head) == "psc >> dro_lt > prototypes adjust=0"


def test_recipes_of_later_stages_are_no_options():
    head = "psc >> dro_lt > crt tau=1 recipe=crt,epochs=3,lr=0.1"
    assert recipes(head) == ("psc >> dro_lt > crt tau=1", {"crt": "crt epochs=3 lr=0.1"})
    assert recipes("psc > ncm") == ("psc > ncm", {})


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) & set(HEADS)))
def test_defaults_are_those_of_the_heads(name):
    own = inspect.signature(HEADS[name]).parameters
    for key, value in stated(f"{name} {DEFAULTS[name]}")[1].items():
        default = own[key].default
        assert (f"{default:g}" if isinstance(default, float) else str(default)) == value, key
