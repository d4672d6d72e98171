"""The exhibits of DL2PA, each beside its published numbers.

Saadabadi, Dabouei, Malakshan, Nasrabadi. "Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment." CVPR 2024, arXiv:2403.16937.

Which of our heads answers which of the paper's methods stands in BALANCED, LONG_TAIL, IMAGENET and
POINTS; in which surroundings, in the WHERE tables. A method's first pattern is nearest to print;
what fits a later one is shown below it as a variant.
"""

from collections.abc import Callable

from reports.exhibits import Item, ablations, beside, geometry
from reports.exhibits.beside import Table, Where

SUM = "batch_norm=False class_weights=False reduction=sum projection=*"
"""The released balanced protocol: (1 − cos)² summed over the batch, no neck."""

BALANCED = {
    # the cells at d = c are HPN's one-hot prototypes; a softmax at d = c stands below them
    "PSC d=100": ("one_hot projection=*", "psc projection=*", "psc cosine=True scale=1 *"),
    "PSC d=200": ("one_hot projection=*", "psc projection=*", "psc cosine=True scale=1 *"),
    # with cosines at scale 1, as the released class has it, cross-entropy stays above 3.6
    "PSC": ("psc projection=*", "psc cosine=True scale=1 *"),
    "PSC*": ("psc uniformity=0.01 projection=*",),
    "Word2Vec": ("word2vec *",),
    # the paper's were made by 10,000 steps of gradient descent; ours are at the optimum
    "HPN": ("hpn placement=released projection=*", "hpn projection=*"),
    "ETF": (f"etf {SUM}",),
    "Ours": (f"dl2pa {SUM}", f"dl2pa prototypes=released means=released {SUM}"),
    "Ours*": (f"dl2pa prototypes=psc start=* {SUM}",),
    "Fixed W + CE": ("fixed points=energy scale=* projection=*",),
}

LONG_TAIL = {
    "PSC": ("psc projection=*",),
    "ETF": ("etf projection=*",),
    "Ours": ("dl2pa projection=*", "dl2pa prototypes=released means=released projection=*"),
}

IMAGENET = {
    "PSC": ("psc projection=*",),
    "DNC": ("dnc *",),
    "Goto et al.": ("goto *",),
    "Kasarla et al.": ("kasarla *",),
    # half the mean, as equation 6 has it; the released sum does not belong to a rate of 0.5
    "Ours": (
        "dl2pa batch_norm=False class_weights=False projection=*",
        f"dl2pa {SUM}",
        "dl2pa projection=*",
    ),
}

POINTS = {
    "Word2Vec": ("word2vec *",),
    # at d = 100 print is what 1,000 steps give, at d = 50 what 10,000 give
    "HPN d=100": ("hpn placement=printed *", "hpn placement=released *", "hpn *"),
    "HPN": ("hpn placement=released *", "hpn placement=separation *"),
    "ETF": ("etf *",),
    # "released" are the 1,000 steps that the paper states; what it prints took more
    "Ours": ("dl2pa prototypes=spread *", "dl2pa prototypes=released *"),
}

DIMS = {
    "Word2Vec d=100": 99,  # Table 7
    "Word2Vec cifar100 d=100": 99,
    "Word2Vec tiny_imagenet d=200": 199,
}
"""Word vectors less their mean span one dimension fewer than there are names."""

_BALANCED_RECIPES = ("balanced_250", "balanced_250_released")
WHERE_BALANCED = {
    name: Where((name,), ("resnet32_hpn",), _BALANCED_RECIPES, full=500)
    for name in ("cifar100", "tiny_imagenet")
}

_LONG_TAIL_RECIPES = ("long_tail_200", "long_tail_200_released")
_PLAIN_RECIPES = ("long_tail_200_plain", "long_tail_200")
_WIDE = ("resnet32 channels=32",)
_NARROW = ("resnet32 channels=16", "resnet32")
_SHIFTED = {"svhn": "labels are right here, shifted in print"}
WHERE_LONG_TAIL = {
    "cifar100": Where(("cifar100",), _WIDE, _LONG_TAIL_RECIPES, full=500),
    "cifar10": Where(("cifar10",), _NARROW, _LONG_TAIL_RECIPES, full=5000),
    "svhn": Where(("svhn_released", "svhn"), _NARROW, _PLAIN_RECIPES, because=_SHIFTED),
    "stl10": Where(("stl10",), _NARROW, _PLAIN_RECIPES, full=500),
}

WHERE_IMAGENET_LT = {
    "imagenet_lt": Where(
        ("imagenet_lt",),
        ("resnet50_4096", "resnet50"),
        ("imagenet_lt_90", "imagenet_lt_200"),
        ratio=1,
    )
}

_IMAGENET_RECIPES = ("imagenet_100", "imagenet_100_released")
WHERE_IMAGENET = {
    "ResNet-50": Where(("imagenet",), ("resnet50",), _IMAGENET_RECIPES, only=True),
    "ResNet-101": Where(("imagenet",), ("resnet101",), _IMAGENET_RECIPES, only=True),
    "ResNet-152": Where(("imagenet",), ("resnet152",), _IMAGENET_RECIPES, only=True),
    "Swin-T": Where(("imagenet",), ("swin_t",), ("swin_100",), only=True),
}

WHERE_POINTS = {
    "Word2Vec": Where(("cifar100",), (), ("balanced_250", "untrained")),
    "": Where(("sphere classes=100",), (), ("untrained",)),
}


def _table(
    number: str, what: str, look: str, suite: str, heads: dict, where: dict, **more
) -> Table:
    command = f"python -m benchmark run --suite {suite}"
    return Table(number, what, look, command, heads, where, dims=DIMS, **more)


TABLES = (
    _table(
        *("1", "accuracy by embedding length, ResNet-32"),
        "Look at d well below the number of classes: there the paper sees dl2pa furthest ahead.",
        *("dl2pa_balanced", BALANCED, WHERE_BALANCED),
    ),
    _table(
        *("2", "dl2pa at half the embedding length of the others, ResNet-32"),
        "Look whether dl2pa at d = c/2 is above hpn and etf at d = c.",
        *("dl2pa_balanced", BALANCED, WHERE_BALANCED),
    ),
    _table(
        *("3", "accuracy on ImageNet-1K"),
        "Look whether dl2pa is above psc on the same network.",
        *("dl2pa_imagenet", IMAGENET, WHERE_IMAGENET),
        column="backbone",
        unsure=("goto",),
    ),
    _table(
        *("4", "long-tailed CIFAR-100, ResNet-32"),
        "Look whether dl2pa with 50 dimensions keeps up with etf, which needs 99.",
        *("dl2pa_long_tail", LONG_TAIL, WHERE_LONG_TAIL),
        rows=("dim",),
        column="ratio",
    ),
    _table(
        *("5", "ImageNet-LT, ResNet-50"),
        "Look whether dl2pa at d = 512 keeps up with etf at d = 4096.",
        *("dl2pa_imagenet_lt", LONG_TAIL, WHERE_IMAGENET_LT),
        rows=("dim",),
        column="metric",
    ),
    _table(
        *("6", "long-tailed CIFAR-10, SVHN and STL-10, ResNet-32"),
        "Look whether dl2pa and etf agree, as they must where the points are the same simplex.",
        *("dl2pa_long_tail", LONG_TAIL, WHERE_LONG_TAIL),
        column="ratio",
    ),
    _table(
        *("7", "largest and smallest cosine among 100 points"),
        "Look at the largest cosine: lower is better, and below 0 only a simplex goes.",
        *("geometry, word2vec: --suite dl2pa_balanced --words FILE", POINTS, WHERE_POINTS),
        rows=("dim",),
        column="metric",
    ),
    _table(
        *("8", "where the prototypes come from, CIFAR-100, ResNet-32"),
        "Look whether psc with a uniformity term stays below dl2pa at every d.",
        *("dl2pa_balanced", BALANCED, WHERE_BALANCED),
    ),
    _table(
        *("9", "the loss on fixed prototypes, CIFAR-100, ResNet-32"),
        "Look at the gap between cross-entropy on fixed points and dl2pa.",
        *("dl2pa_balanced", BALANCED, WHERE_BALANCED),
    ),
)


def _tables(*numbers: str, section: str) -> list[Item]:
    return [beside.item("dl2pa", each, section) for each in TABLES if each.number in numbers]


def _figure(name: str, section: str, what: str, command: str, draw: Callable) -> Item:
    return Item(f"Figure {name}", section, what, f"python -m benchmark {command}", draw)


_SPREAD = "Hyperspherical prototype estimation (3.2.1, 4.4.1)"
_TAU = "Updates of the assignment (4.4.2, 4.4.3)"
_PRIOR = "Impact of the prototypes' distribution (4.4.4)"
_ASSIGN = "Impact of the assignment (4.4.5)"

ITEMS = (
    *_tables("1", "2", "3", section="Balanced classification (4.2)"),
    *_tables("4", "5", "6", section="Long-tailed classification (4.3)"),
    _figure(
        *("2a", _SPREAD, "average pairwise angle of random and optimised points"),
        *("run --suite geometry", geometry.average_angle),
    ),
    _figure(
        *("2b", _SPREAD, "optimised and degenerate points on the sphere"),
        *("run --suite geometry", geometry.sphere),
    ),
    _figure(
        *("2c", _SPREAD, "smallest cosine distance of random and optimised points"),
        *("run --suite geometry", geometry.smallest_distance),
    ),
    *_tables("7", section=_SPREAD),
    _figure(
        *("3a", _SPREAD, "spread of pairwise cosines at d = c = 100"),
        *("run --suite geometry", geometry.cosine_spread),
    ),
    _figure(
        *("3b", _TAU, "accuracy against updates of the assignment per epoch"),
        *("study tau", ablations.updates),
    ),
    _figure(
        *("3c", _TAU, "time of one assignment against classes"),
        *("run --suite geometry", geometry.assignment_time),
    ),
    *_tables("8", section=_PRIOR),
    _figure(
        *("3d", _PRIOR, "psc with a uniformity term of growing weight"),
        *("study lambda", ablations.uniformity),
    ),
    _figure(
        *("4a", _ASSIGN, "accuracy against embedding length, assignment dynamic or fixed"),
        *("study dim", ablations.assignment),
    ),
    _figure(
        *("4b", _ASSIGN, "share of labels that change their prototype"),
        *("study dim", ablations.settling),
    ),
    *_tables("9", section="Impact of the loss (supplement, 9)"),
)
