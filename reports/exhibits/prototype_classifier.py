"""The exhibits of the prototype classifiers, each beside its published numbers.

Sharma, Xian, Yu, Singh. "Learning Prototype Classifiers for Long-Tailed Recognition." IJCAI 2023,
arXiv:2302.00491. Its abstract counts CIFAR10-LT among four benchmarks; no table has it.

Which of our heads answers which of the paper's methods stands in ABLATION, DISTANCES, CLASSIFIERS,
COMPARED and LARGE; in which surroundings, in the WHERE tables. A method's first pattern is nearest
to print; what fits a later one is shown below it as a variant.

The paper's ResNet-32 is two networks. By the released code what it trains itself, and what it takes
from Weight Balancing (arXiv:2203.14197), is a ResNet-34 with 21.3M parameters, `resnet34_cifar`;
the rows of other papers beside it are ResNet-32 with 0.46M, `resnet32`. Cells of either network are
shown, and the verdict says where it is not that of print.
"""

from dataclasses import replace

from reports.exhibits import Item, arithmetic, beside, prototypes
from reports.exhibits.beside import Table, Where

PAPER = "prototype_classifier"

RATES = "form=* prototype_lr=* temperature_lr=* temperature_decay=*"
"""Options of a prototype head that print leaves open, or states otherwise than released code."""


def _prototypes(options: str = "", trunk: str = "psc") -> tuple[str, ...]:
    """The paper's full method, "PC + CDT + LA", or with options; then with other rates."""
    head = f"{trunk} > prototypes {options}".rstrip()
    forms = (head, f"{head} {RATES}")
    # the released τ; where τ is 0 there is none
    return forms if "adjust=" in options else (*forms, f"{head} adjust=0.263 {RATES}")


ABLATION = {
    "Softmax": ("psc",),
    "NCM": ("psc > ncm", "psc > ncm transform=*"),
    "PC": _prototypes("adjust=0 temperatures=False"),
    "PC + CDT": _prototypes("adjust=0"),
    "PC + LA": _prototypes("temperatures=False"),
    "PC + CDT + LA": _prototypes(),
}

DISTANCES = {
    "Softmax": ("psc",),
    "PC (Euclidean)": _prototypes(),
    # with which rate, and whether with temperatures and adjustment, is not stated
    "PC (Squared Euclidean)": (
        "psc > prototypes distance=squared",
        "psc > prototypes distance=squared *",
    ),
    "PC (Cosine)": ("psc > prototypes distance=cosine", "psc > prototypes distance=cosine *"),
}

CLASSIFIERS = {
    "CE": ("psc",),
    "cRT": ("psc > crt",),
    "WD + MaxNorm": ("psc > max_norm", "psc > max_norm *"),
    "PC (Ours)": _prototypes(),
    "CE on DRO-LT": ("psc >> dro_lt > psc", "psc >> dro_lt *"),
    "cRT on DRO-LT": ("psc >> dro_lt > crt", "psc >> dro_lt * > crt"),
    "WD + MaxNorm on DRO-LT": ("psc >> dro_lt > max_norm", "psc >> dro_lt > psc > max_norm"),
    "PC (Ours) on DRO-LT": _prototypes(trunk="psc >> dro_lt"),
}

COMPARED = {
    "CE": ("psc",),
    # the released code of LDAM, whose numbers these are, has gamma 1; the loss's own paper has 2
    "Focal Loss": ("focal gamma=1 projection=*", "focal projection=*"),
    "LDAM Loss": ("ldam projection=*", "ldam deferred=True projection=*"),
    "cRT": ("psc > crt",),
    "LogitAdjust": (
        "logit_adjustment projection=*",
        "psc > logit_adjustment form=post_hoc",
        "psc > logit_adjustment form=post_hoc tau=*",
    ),
    "DRO-LT": CLASSIFIERS["cRT on DRO-LT"],
    "PaCO": ("paco", "paco *"),
    "RIDE": ("ride experts=4", "ride", "ride *"),
    "WD": ("psc",),
    "WD + WD + Max": ("psc > max_norm", "psc > max_norm *"),
    "NCM": ABLATION["NCM"],
    "PC (Ours)": _prototypes(),
}

LARGE = COMPARED | {"DisAlign": ("psc > disalign", "psc > disalign rho=*")}

# Recipes of the first stage, nearest to print first, and of later ones beside their own.
_CE = ("cross_entropy_200", "cross_entropy_200_released", "long_tail_200")
_WD = ("weight_decay_200", "weight_decay_320_released")
_LATER = ("crt_released", "max_norm_released", "crt_dro_lt", *_CE)
_OTHERWISE = {"long_tail_200": "mixup where print has none"}

_SUBSETS = ("cifar100", "cifar100 subset=first", "cifar100 subset=released_pair")
"""Print is one of these: by the released code softmax and weight decay are trained on `first`, and
centroids and prototypes on another subset than their features. One subset for all is our answer."""

_SMALL = ("resnet32", "resnet32 channels=16", "resnet34_cifar")
_WIDE = ("resnet34_cifar", "resnet32", "resnet32 channels=16")
_TOO_WIDE = {"resnet34_cifar": "network resnet34_cifar, 21.3M parameters where print has 0.46M"}
_TOO_SMALL = {
    name: f"network {name}, 0.46M parameters where print has 21.3M"
    for name in ("resnet32", "resnet32 channels=16")
}

SMALL = Where(("cifar100",), _SMALL, _CE, full=500, because=_TOO_WIDE | _OTHERWISE, later=_LATER)
WIDE = Where(_SUBSETS, _WIDE, _WD, full=500, because=_TOO_SMALL, later=_LATER)

WHERE_ABLATION = {"cifar100": WIDE}

# on which network print learned the classifiers other than softmax is not stated
WHERE_FEATURES = {"CE features": SMALL, "DRO-LT features": SMALL, "WD features": WIDE}

DECAYED = ("WD", "WD + WD + Max", "NCM", "PC (Ours)")
"""Methods on features with a strong weight decay."""

WHERE_COMPARED = {name: WIDE for name in DECAYED} | {
    "LogitAdjust": replace(SMALL, recipes=(*_CE, "logit_adjustment_1419")),
    "PaCO": replace(SMALL, recipes=("paco_400",)),
    "RIDE": replace(
        SMALL,
        backbones=("resnet32 taper=0.75", *_SMALL),
        recipes=("ride_200", *_CE),
        always="print has 4 experts distilled from 6, here is no distillation",
    ),
    "cifar100": SMALL,
}


def _listed(data: str, network: str, focal: str) -> dict[str, Where]:
    """Surroundings on a data set whose list of images fixes the imbalance.

    focal: what the printed focal loss is.
    """
    stages = ("crt", "max_norm", "disalign", "prototypes")
    later = tuple(f"{name}_{each}" for name in stages for each in (data, "imagenet_lt"))
    plain = (f"cross_entropy_{data}_90", f"cross_entropy_{data}_200")
    decayed = (f"weight_decay_{data}_200",)
    base = Where((data,), (network,), plain, ratio=1, later=later)
    return {name: replace(base, recipes=decayed) for name in DECAYED} | {
        "Focal Loss": replace(base, always=focal),
        "PaCO": replace(base, recipes=(f"paco_{data}_400", "paco_400")),
        "RIDE": replace(
            base,
            recipes=(f"ride_{data}_100", *plain),
            always="print is an ensemble of experts, their number not stated",
        ),
        data: base,
    }


WHERE_IMAGENET_LT = _listed(
    "imagenet_lt", "resnext50_32x4d", "print is a ResNet-10, by its value: a row of OLTR"
)
WHERE_INATURALIST = _listed(
    "inaturalist18", "resnet50", "print is the class-balanced focal loss, by its value"
)

_SUITE = "python -m benchmark run --suite prototype_classifier"

TABLES = (
    Table(
        *("1", "what the parts of the prototype classifier add, CIFAR-100 1:100"),
        "Look at the few-shot column from row to row: there the paper sees each part add, from "
        "softmax to nearest class means to learned prototypes.",
        *(_SUITE, ABLATION, WHERE_ABLATION),
        column="split",
    ),
    Table(
        *("2", "prototypes learned by three distances, CIFAR-100 1:100"),
        "Look whether the squared distance falls below the means it starts at, and whether a "
        "rate of its own mends it.",
        *(_SUITE, DISTANCES, WHERE_ABLATION),
        column="split",
    ),
    Table(
        *("3", "four classifiers on three kinds of features, CIFAR-100 1:100"),
        "Look along a row, which shares its features: the paper has the prototypes ahead in each.",
        *(_SUITE, CLASSIFIERS, WHERE_FEATURES),
        rows=("features",),
        column="method",
    ),
    Table(
        *("4", "comparison on long-tailed CIFAR-100"),
        "Look at the network beside each number before comparing two rows: print has 21.3M "
        "parameters in the last four and 0.46M in the others.",
        *(_SUITE, COMPARED, WHERE_COMPARED),
        column="ratio",
    ),
    Table(
        *("5", "comparison on ImageNet-LT, ResNeXt-50"),
        "Look at the few-shot column: there the paper sees the prototypes ahead of all others.",
        *(f"{_SUITE}_large", LARGE, WHERE_IMAGENET_LT),
        column="split",
    ),
    Table(
        *("6", "comparison on iNaturalist 2018, ResNet-50"),
        "Look whether prototypes are ahead of the class means that they start at.",
        *(f"{_SUITE}_large", LARGE, WHERE_INATURALIST),
        column="split",
    ),
)


def _tables(*numbers: str, section: str) -> list[Item]:
    return [beside.item(PAPER, each, section) for each in TABLES if each.number in numbers]


ITEMS = (
    *_tables("1", "2", "3", section="Ablation (4.4)"),
    Item(
        *("Figure 2", "Prototype norms (4.5)"),
        "norms of softmax weights, centroids and prototypes by class size",
        *(_SUITE, prototypes.norms),
    ),
    Item(
        *("Figure 3", "How prototypes evolve (4.6)"),
        "distances and cosines between prototypes along training",
        *(_SUITE, prototypes.separation),
    ),
    *_tables("4", "5", "6", section="Comparison to the state of the art (5)"),
    arithmetic.item(PAPER),
)
