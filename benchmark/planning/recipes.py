"""Recipes: how a stage is trained, and where every number comes from.

Milestones and warm-up are fractions of the run, so that a shortened run is the same run in small.

Sources.
    DL2PA   Ebrahimi et al., CVPR 2024, arXiv:2403.16937, and its released configurations
    HPN     Mettes, van der Pol, Snoek, NeurIPS 2019, arXiv:1901.10514, released code (hpn_cifar.py)
    LDAM    Cao et al., NeurIPS 2019, arXiv:1906.07413, released code (cifar_train.py)
    ETF     Yang et al., NeurIPS 2022, arXiv:2203.09081, released code
    EBV     Shen, Sun, Wei, CVPR 2023, arXiv:2303.11637, released code, DL2PA's model for ImageNet
    PC      Sharma, Xian, Yu, Singh, IJCAI 2023, arXiv:2302.00491, and its released code
    WD      Alshammari, Wang, Ramanan, Kong, CVPR 2022, arXiv:2203.14197, and its released code
    cRT     Kang et al., ICLR 2020, arXiv:1910.09217, released configurations
    BoT     Zhang, Wei, Zhou, Wu, "Bag of Tricks for Long-Tailed Visual Recognition with Deep
            Convolutional Neural Networks", AAAI 2021, released configurations
    DisAlign   Zhang, Li, Yan, He, Sun, CVPR 2021, arXiv:2103.16370, released configurations
    DRO     Samuel, Chechik, ICCV 2021, arXiv:2104.03066, released code and its README
    PaCo    Cui, Zhong, Liu, Yu, Jia, ICCV 2021, arXiv:2107.12028, released code (paco_cifar.py)
    RIDE    Wang, Lian, Miao, Liu, Yu, ICLR 2021, arXiv:2010.01809, released configurations
    LA      Menon et al., ICLR 2021, arXiv:2007.07314, released code

Released code of the long-tailed family reports the best test epoch, WD and PC with scores averaged
over the image and its mirror image. Here the number is the last epoch, one view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from benchmark.planning.cell import Pairs, freeze

Fraction = Annotated[float, Field(ge=0, le=1)]


# Fields that recipes did not have when the first cells were trained. At their default they mean
# what was done then, and are left out of a cell: so those cells keep their keys and their results.
# A new field of a recipe belongs here; a name never leaves, and its default never changes.
LATER = frozenset(
    (
        *("optimizer", "cutmix", "hard_labels", "policy", "jitter", "erasing", "size", "resize"),
        *("area", "rotation", "hue", "jittered", "grey", "blur", "cutout", "second_view"),
        *("sampler", "epoch_images", "batch_norm"),
    )
)


def no_truth(cls: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """Refuse true and false where a number or a word is due: pydantic reads them as 1 and 0."""
    wanted = cls.model_fields[info.field_name or ""].annotation
    items = value if isinstance(value, (list, tuple)) else [value]
    if wanted is not bool and any(isinstance(item, bool) for item in items):
        raise ValueError("Input should be neither true nor false")
    return value


class Recipe(BaseModel):
    """How a stage is trained. Every field is part of the cell's identity.

    epochs, batch   length in epochs, 0: the head is described as it was built; images per step
    optimizer       sgd, with `momentum` and `nesterov` · adamw (arXiv:1711.05101), torch's betas
    lr, weight_decay   rate at its highest; decay on all parameters as in every source above
    schedule        step: times gamma at each milestone · cosine: to zero · constant
    warmup          fraction of the run; the rate climbs in `warmup_stairs` equal steps to lr
    mixup           alpha of Beta(alpha, alpha), one draw a batch; 0: none
    cutmix          the same for CutMix; where both are above 0, each batch takes one, at even odds
    hard_labels     a mixed image keeps one label whole: that of the larger share
    augment         none · crop · crop_flip, with `padding` pixels of black around the image ·
                    resized_crop_flip: a random part of the image brought to `size`, and the flip
    area            least share of the image that such a part is
    rotation        degrees, at most, by which an image is turned; 0: not at all
    policy          none · trivial: TrivialAugment, arXiv:2103.10158 · auto_cifar10 and
                    auto_imagenet: AutoAugment, arXiv:1805.09501 · rand: RandAugment,
                    arXiv:1909.13719, two operations at 9 of 30
    jitter          how far brightness, contrast and saturation may go, as a share; 0: not at all
    hue             how far colours may turn, as a share of the circle; 0: not at all
    jittered        how often jitter and hue are applied, as a share; 1: always
    grey, blur      how often colours are taken away, and a Gaussian blur applied, as a share
    cutout          side in pixels of a black hole in the image (arXiv:1708.04552); 0: none
    erasing         how often a random box is erased (arXiv:1708.04896), as a share; 0: never
    second_view     for heads that ask for two views of an image: same: changed as the first ·
                    contrastive: as MoCo v2 does (arXiv:2003.04297), whatever the fields above
    size            side of an image in pixels, training and evaluation; 0: as found
    resize          shorter side at evaluation, of which the middle is taken; 0: off
    precision       of the backbone: float32 · bf16 (autocast); heads always compute in float32
    normalise       dataset: its own constants · cifar10: those constants for whatever data
    drop_last       leave out the last, smaller batch of an epoch
    sampler         instance: every image once an epoch · class_balanced: classes in turn, four
                    images of each · square_root: classes with probability ∝ √n; arXiv:1910.09217
    epoch_images    length of an epoch of the last two: natural: as many images as there are ·
                    largest: as if all classes were as large as the largest
    batch_norm      of a frozen trunk: frozen · released: in training mode, as most released code
                    has it: weights stand still, running statistics move
    oracle          test accuracy every n epochs, for the column of the best test epoch; 0: off
    flip            a column with scores averaged over the image and its mirror image
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(ge=0)
    batch: int = Field(ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: float = Field(ge=0)
    schedule: Literal["step", "cosine", "constant"]
    milestones: tuple[Fraction, ...] = ()
    gamma: float = Field(default=0.1, gt=0)
    warmup: Fraction = 0.0
    warmup_stairs: int = Field(default=1, ge=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    hard_labels: bool = False
    augment: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = "crop_flip"
    padding: int = Field(default=4, ge=0)
    area: float = Field(default=0.08, gt=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
    policy: Literal["none", "trivial", "auto_cifar10", "auto_imagenet", "rand"] = "none"
    jitter: Fraction = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    jittered: Fraction = 1.0
    grey: Fraction = 0.0
    blur: Fraction = 0.0
    cutout: int = Field(default=0, ge=0)
    erasing: Fraction = 0.0
    second_view: Literal["same", "contrastive"] = "same"
    size: int = Field(default=0, ge=0)
    resize: int = Field(default=0, ge=0)
    precision: Literal["float32", "bf16"]
    normalise: Literal["dataset", "cifar10"] = "dataset"
    drop_last: bool = False
    sampler: Literal["instance", "class_balanced", "square_root"] = "instance"
    epoch_images: Literal["natural", "largest"] = "natural"
    batch_norm: Literal["frozen", "released"] = "frozen"
    oracle: int = Field(default=0, ge=0)
    flip: bool = False

    _numbers = field_validator("*", mode="before")(no_truth)

    @field_validator("oracle", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return 0 if value is False or value == "off" else value  # YAML reads `off` as false

    @model_validator(mode="after")
    def _milestones_belong_to_steps(self) -> "Recipe":
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                "milestones and schedule 'step' belong together, "
                f"got schedule {self.schedule!r} with milestones {list(self.milestones)}"
            )
        return self

    @model_validator(mode="after")
    def _nesterov_belongs_to_sgd(self) -> "Recipe":
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov belongs to optimizer 'sgd', got {self.optimizer!r}")
        return self

    @model_validator(mode="after")
    def _an_epoch_of_instances_is_all_of_them(self) -> "Recipe":
        if self.sampler == "instance" and self.epoch_images != "natural":
            raise ValueError(
                f"sampler 'instance' shows every image once, got epoch_images {self.epoch_images!r}"
            )
        return self

    @model_validator(mode="after")
    def _the_middle_lies_inside(self) -> "Recipe":
        if self.resize and not 0 < self.size <= self.resize:
            raise ValueError(
                "evaluation takes the middle, `size` pixels wide, of an image whose shorter side "
                f"is `resize`: got size {self.size} with resize {self.resize}"
            )
        return self

    def pairs(self) -> Pairs:
        """Every field, for a cell; of those in LATER only what differs from the default."""
        fields = type(self).model_fields
        return freeze(
            {
                name: value
                for name, value in self.model_dump().items()
                if name not in LATER or value != fields[name].default
            }
        )


@dataclass(frozen=True, slots=True)
class Named:
    """A recipe and, in a sentence, where it comes from."""

    recipe: Recipe
    source: str


_LONG_TAIL = Recipe(
    epochs=200,  # DL2PA sec. 7.2; LDAM, ETF
    batch=128,  # LDAM, ETF, DL2PA configurations
    lr=0.1,  # the same
    momentum=0.9,  # the same
    weight_decay=2e-4,  # the same; on batch norm and biases too
    schedule="step",
    milestones=(0.8, 0.9),  # after 160 and 180 of 200 epochs: ETF and DL2PA configurations
    gamma=0.1,  # ETF and DL2PA (LDAM's own code has 0.01)
    warmup=0.025,  # 5 of 200 epochs, ETF and DL2PA code
    warmup_stairs=5,  # lr * e / 5 in epoch e = 1 … 5, the same
    mixup=1.0,  # DL2PA sec. 7.2; ETF configurations
    augment="crop_flip",  # the same
    padding=4,  # the same
    precision="bf16",  # ours: images of 32 pixels and more
)

_BALANCED = Recipe(
    epochs=250,  # HPN; DL2PA sec. 7.1
    batch=128,  # the same
    lr=0.01,  # the same: belongs to the sum over the batch of (1 - cos)^2
    momentum=0.9,  # the same
    weight_decay=1e-4,  # the same
    schedule="step",
    milestones=(0.4, 0.8),  # epochs 100 and 200 of 250, counted from 0: HPN, DL2PA
    gamma=0.1,  # the same
    augment="crop_flip",  # the same
    padding=4,  # the same
    precision="bf16",  # ours: images of 32 pixels and more
)

_QUICK = Recipe(
    epochs=30,  # ours: two to three seconds a cell on one core
    batch=64,  # ours
    lr=0.1,  # as long_tail_200, whose loss scale (half the mean) the quick suite uses
    momentum=0.9,  # the same
    weight_decay=5e-4,  # ours
    schedule="cosine",  # ours
    warmup=0.1,  # ours
    warmup_stairs=3,  # ours
    augment="crop",  # a mirrored digit is no digit
    padding=1,  # ours: an eighth of the image, as 4 pixels of 32
    precision="float32",
)

_UNTRAINED = Recipe(
    epochs=0,  # a head described as it was built; what follows has no effect
    batch=64,
    lr=0.1,
    weight_decay=0.0,
    schedule="constant",
    augment="none",
    precision="float32",
)

_IMAGENET = Recipe(
    epochs=100,  # DL2PA sec. 7.1
    batch=1024,  # the same
    lr=0.5,  # the same
    momentum=0.9,  # released configuration; not in print
    weight_decay=2e-5,  # DL2PA sec. 7.1
    schedule="cosine",  # the same; here from the first step on, warm-up included
    warmup=0.05,  # 5 of 100 epochs, the same
    warmup_stairs=5,  # ours: one step an epoch, as in the long-tailed protocol
    mixup=1.0,  # DL2PA sec. 7.1
    augment="resized_crop_flip",  # ours: not in print, the usual one for 224 pixels (EBV)
    size=224,  # ours, the same
    resize=256,  # released code
    precision="bf16",  # released code: autocast, to float16
)

# Left out of what the released code does: its scheduler steps after every batch and once more after
# every epoch, so that the warm-up lasts 5 batches and the rate then swings from 0.5 to 0 and back
# every 200 batches; it trains on 244 pixels, a slip for 224; and it evaluates on 256 pixels, not
# 224, which in EBV's logs is worth about a point.
_IMAGENET_RELEASED = _IMAGENET.model_copy(
    update={
        "epochs": 105,  # DL2PA, EBV configurations: 5 of warm-up and 100
        "warmup": 5 / 105,  # the same
        "mixup": 0.2,  # DL2PA, EBV code
        "cutmix": 1.0,  # the same, one of the two for each batch
        "hard_labels": True,  # DL2PA code: the largest of the mixed targets
        "policy": "trivial",  # DL2PA, EBV code
        "erasing": 0.1,  # the same
        "oracle": 1,  # the best test epoch is what the released code reports
    }
)

# DL2PA sec. 7.1 for Swin-T: AdamW, 0.001 (the released configuration has 0.5, which is SGD's); of
# schedule and mixup it says nothing other than for ResNet-50
_SWIN = _IMAGENET.model_copy(update={"optimizer": "adamw", "lr": 0.001})

_IMAGENET_LT = Recipe(
    epochs=90,  # ETF configurations, as all below
    batch=1024,
    lr=0.1,
    momentum=0.9,  # as in ETF's other configurations
    weight_decay=5e-4,
    schedule="cosine",
    mixup=0.2,
    augment="resized_crop_flip",
    jitter=0.4,
    size=224,
    resize=256,
    precision="bf16",  # ours: images of 32 pixels and more
)

_CROSS_ENTROPY = _LONG_TAIL.model_copy(
    update={
        "gamma": 0.01,  # after 160 and again after 180 epochs: LDAM, BoT code
        "mixup": 0.0,  # the same
    }
)

_WEIGHT_DECAY = Recipe(
    epochs=200,  # PC sec. 4.3 (WD's own code has 320)
    batch=64,  # PC sec. 4.3, WD code
    lr=0.01,  # the same
    momentum=0.9,  # the same
    weight_decay=5e-3,  # WD code for CIFAR-100 at 1:100, on batch norm and biases too; elsewhere
    # it was searched for (PC sec. 4.3) and not published
    schedule="cosine",  # the same; WD's code steps it first, so that its last epoch has rate 0
    augment="crop_flip",  # the same
    padding=4,  # the same
    precision="bf16",  # ours: images of 32 pixels and more
)

# released code of all that stand on a trunk is in training mode, but for PC's one epoch: see
# `batch_norm`, which here stays frozen so that all stand on the same features
_CRT = Recipe(
    epochs=30,  # BoT, as all below: cRT has no configuration for CIFAR
    batch=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="step",
    milestones=(10 / 30, 20 / 30),
    gamma=0.1,
    warmup=5 / 30,
    warmup_stairs=5,
    augment="crop_flip",
    padding=4,
    precision="bf16",  # ours: images of 32 pixels and more
    sampler="class_balanced",  # cRT; BoT draws as many images of each class, each time any
    epoch_images="natural",  # cRT, BoT code
)

_MAX_NORM = _WEIGHT_DECAY.model_copy(
    update={
        "epochs": 10,  # WD code
        "weight_decay": 0.1,  # the same, weight and bias
    }
)

_DISALIGN = Recipe(
    epochs=10,  # DisAlign for ImageNet-LT, as all below: it was never run on CIFAR
    batch=256,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    augment="crop_flip",  # ours, as in the first stage
    padding=4,  # the same
    precision="bf16",  # ours: images of 32 pixels and more
)

_PROTOTYPES = Recipe(
    epochs=1,  # PC sec. 4.3
    batch=64,  # PC code
    lr=0.005,  # of the temperatures, PC sec. 4.3; prototypes have a rate of their own in the head
    momentum=0.9,  # PC sec. 4.3
    weight_decay=2e-4,  # of the temperatures, PC code; prototypes have none, in the head
    schedule="constant",  # PC code
    augment="crop_flip",  # PC sec. 4.3, as the next two
    padding=4,  # PC code
    policy="auto_cifar10",
    cutout=16,
    precision="bf16",  # ours: images of 32 pixels and more
    sampler="class_balanced",  # PC sec. 4.3
    epoch_images="largest",  # PC code: 50,000 images, 782 steps, on CIFAR-100 at every ratio
)

_DRO = Recipe(
    epochs=80,  # DRO code, as all below
    batch=128,
    lr=0.005,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="constant",
    augment="crop_flip",
    padding=4,
    policy="auto_cifar10",
    cutout=16,
    precision="bf16",  # ours: images of 32 pixels and more
    sampler="class_balanced",
    epoch_images="largest",
)

_PACO = Recipe(
    epochs=400,  # PaCo code, as all below
    batch=128,
    lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="step",
    milestones=(0.8, 0.9),  # after 320 and 360 epochs
    gamma=0.1,
    warmup=0.025,  # 10 of 400 epochs; its eleventh, at 1.1 times the rate, is a slip
    warmup_stairs=10,
    augment="crop_flip",
    padding=4,
    policy="auto_cifar10",
    cutout=16,
    second_view="contrastive",
    precision="bf16",  # ours: images of 32 pixels and more
    drop_last=True,
)

_RIDE = _CROSS_ENTROPY.model_copy(
    update={
        "weight_decay": 5e-4,  # RIDE configuration
        "nesterov": True,  # the same
        "rotation": 15.0,  # RIDE code
    }
)

# Left out of LA's code: its pixels are centred at one half and not scaled, and its batch norm does
# not decay.
_LOGIT_ADJUSTMENT = Recipe(
    epochs=1419,  # LA code for CIFAR-100, as all below
    batch=128,
    lr=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=2e-4,  # 1e-4 times the sum of squares in the loss, whose gradient is twice that
    schedule="step",
    milestones=(691 / 1419, 1059 / 1419, 1290 / 1419),
    gamma=0.1,
    warmup=22 / 1419,
    warmup_stairs=22 * 84,  # linear, step by step: an epoch has 84 at 1:100
    augment="crop_flip",
    padding=2,  # padded from 32 to 36 pixels
    precision="bf16",  # ours: images of 32 pixels and more
    drop_last=True,
)

_PHOTOGRAPHS: Mapping[str, Any] = {  # cRT code, and all that follow
    "augment": "resized_crop_flip",
    "size": 224,
    "resize": 256,
}
_IMAGENET_LT_FAMILY = {**_PHOTOGRAPHS, "jitter": 0.4}  # cRT code: iNaturalist has no jitter
_DECOUPLED = {"lr": 0.2, "batch": 512, "schedule": "cosine", "milestones": (), "warmup": 0.0}

_CROSS_ENTROPY_IMAGENET_LT = _CROSS_ENTROPY.model_copy(
    update={
        **_IMAGENET_LT_FAMILY,
        **_DECOUPLED,  # cRT configurations, as the next two
        "epochs": 90,
        "weight_decay": 5e-4,
    }
)
_CROSS_ENTROPY_INATURALIST = _CROSS_ENTROPY.model_copy(
    update={
        **_PHOTOGRAPHS,
        **_DECOUPLED,  # cRT configurations, as the next two
        "epochs": 200,  # or 90
        "weight_decay": 1e-4,
    }
)
_CRT_IMAGENET_LT = _CRT.model_copy(
    update={**_IMAGENET_LT_FAMILY, **_DECOUPLED, "epochs": 10}  # cRT configuration
)
_CRT_INATURALIST = _CRT.model_copy(
    update={**_PHOTOGRAPHS, **_DECOUPLED, "epochs": 30, "weight_decay": 1e-4}  # the same
)
# PC sec. 4.3. The decay that its search found was not published: here cRT's
_WEIGHT_DECAY_IMAGENET_LT = _WEIGHT_DECAY.model_copy(update={**_PHOTOGRAPHS, "weight_decay": 5e-4})
_WEIGHT_DECAY_INATURALIST = _WEIGHT_DECAY.model_copy(
    update={**_PHOTOGRAPHS, "weight_decay": 1e-4, "batch": 512}
)
# PC sec. 4.3 names the same changes for all data; for photographs its code has none of them
_PROTOTYPES_IMAGENET_LT = _PROTOTYPES.model_copy(update={**_PHOTOGRAPHS, "policy": "auto_imagenet"})
_PROTOTYPES_INATURALIST = _PROTOTYPES_IMAGENET_LT.model_copy(update={"batch": 512})
_RIDE_IMAGENET_LT = _RIDE.model_copy(
    update={
        **_IMAGENET_LT_FAMILY,
        "rotation": 0.0,
        "epochs": 100,  # RIDE configuration, as all below
        "batch": 256,
        "weight_decay": 2e-4,
        "milestones": (0.6, 0.8),
        "gamma": 0.1,
        "warmup": 0.05,
    }
)
_RIDE_INATURALIST = _RIDE_IMAGENET_LT.model_copy(
    update={"jitter": 0.0, "batch": 512, "lr": 0.2}  # RIDE configuration
)
_RELEASED = {"batch_norm": "released"}

RECIPES: Mapping[str, Named] = {
    "quick": Named(_QUICK, "ours, for 8x8 digits in seconds"),
    "long_tail_200": Named(
        _LONG_TAIL, "DL2PA sec. 7.2 and ETF, released configurations; last epoch"
    ),
    "long_tail_200_released": Named(
        _LONG_TAIL.model_copy(update={"oracle": 1, "normalise": "cifar10"}),
        "as long_tail_200, with the CIFAR-10 constants for all data and the best test epoch beside",
    ),
    "balanced_250": Named(_BALANCED, "HPN and DL2PA sec. 7.1, released configurations; last epoch"),
    "balanced_250_released": Named(
        _BALANCED.model_copy(update={"oracle": 1}),
        "as balanced_250, with the best test epoch, which the released code reports, beside",
    ),
    "long_tail_200_plain": Named(
        _LONG_TAIL.model_copy(update={"augment": "none"}),
        "as long_tail_200, images as they are: released code of ETF and DL2PA for SVHN and STL-10",
    ),
    "imagenet_100": Named(_IMAGENET, "DL2PA sec. 7.1, ResNet-50 on ImageNet; last epoch"),
    "imagenet_100_released": Named(
        _IMAGENET_RELEASED,
        "DL2PA's released configuration after EBV's, less the defects of its schedule and sizes; "
        "105 epochs; last epoch, the best test epoch beside",
    ),
    "swin_100": Named(_SWIN, "DL2PA sec. 7.1, Swin-T on ImageNet; last epoch"),
    "imagenet_lt_90": Named(_IMAGENET_LT, "ETF, released configurations for ImageNet-LT"),
    "imagenet_lt_200": Named(
        _LONG_TAIL.model_copy(update={"augment": "resized_crop_flip", "size": 224, "resize": 256}),
        "DL2PA sec. 7.2, which has one protocol for all long-tailed data, on images of 224 pixels",
    ),
    "cross_entropy_200": Named(
        _CROSS_ENTROPY, "LDAM, released code: cross-entropy, focal, LDAM; last epoch"
    ),
    "cross_entropy_200_released": Named(
        _CROSS_ENTROPY.model_copy(update={"oracle": 1, "normalise": "cifar10"}),
        "as cross_entropy_200, with the CIFAR-10 constants for all data and the best test epoch, "
        "which the released code reports, beside",
    ),
    "weight_decay_200": Named(_WEIGHT_DECAY, "PC sec. 4.3, WD's first stage; last epoch"),
    "weight_decay_320_released": Named(
        _WEIGHT_DECAY.model_copy(
            update={"epochs": 320, "oracle": 1, "flip": True, "normalise": "cifar10"}
        ),
        "WD's first stage, released code; last epoch, the best test epoch and scores averaged over "
        "the mirror image beside",
    ),
    "logit_adjustment_1419": Named(_LOGIT_ADJUSTMENT, "LA, released code for CIFAR-100 at 1:100"),
    "paco_400": Named(_PACO, "PaCo, released code for CIFAR; two views, unlike each other"),
    "ride_200": Named(_RIDE, "RIDE, released configuration for CIFAR-100, first stage"),
    "crt": Named(_CRT, "BoT for CIFAR, after cRT"),
    "crt_released": Named(
        _CRT.model_copy(update=_RELEASED), "as crt, running statistics move, as in the code of both"
    ),
    "max_norm": Named(_MAX_NORM, "WD's second stage, released code"),
    "max_norm_released": Named(
        _MAX_NORM.model_copy(update=_RELEASED),
        "as max_norm, running statistics move, as in the released code",
    ),
    "disalign": Named(_DISALIGN, "DisAlign's second stage for ImageNet-LT, on smaller images"),
    "prototypes": Named(_PROTOTYPES, "PC sec. 4.3, released code: one epoch in 782 steps"),
    "dro_lt": Named(_DRO, "DRO's first phase, released code"),
    "crt_dro_lt": Named(
        _DRO.model_copy(update={"epochs": 20, "lr": 0.01}),
        "DRO's second phase, released code: the classifier alone",
    ),
    "cross_entropy_imagenet_lt_90": Named(_CROSS_ENTROPY_IMAGENET_LT, "cRT's first stage"),
    "cross_entropy_inaturalist18_200": Named(_CROSS_ENTROPY_INATURALIST, "cRT's first stage"),
    "weight_decay_imagenet_lt_200": Named(
        _WEIGHT_DECAY_IMAGENET_LT, "PC sec. 4.3; cRT's decay, since its own was not published"
    ),
    "weight_decay_inaturalist18_200": Named(
        _WEIGHT_DECAY_INATURALIST, "PC sec. 4.3; cRT's decay, since its own was not published"
    ),
    "crt_imagenet_lt": Named(_CRT_IMAGENET_LT, "cRT, released configuration"),
    "crt_inaturalist18": Named(_CRT_INATURALIST, "cRT, released configuration"),
    "max_norm_imagenet_lt": Named(
        _MAX_NORM.model_copy(update=_PHOTOGRAPHS), "as max_norm, on images of 224 pixels"
    ),
    "disalign_imagenet_lt": Named(
        _DISALIGN.model_copy(update=_IMAGENET_LT_FAMILY), "DisAlign's second stage"
    ),
    "prototypes_imagenet_lt": Named(_PROTOTYPES_IMAGENET_LT, "PC sec. 4.3"),
    "prototypes_inaturalist18": Named(_PROTOTYPES_INATURALIST, "PC sec. 4.3"),
    "ride_imagenet_lt_100": Named(_RIDE_IMAGENET_LT, "RIDE, released configuration"),
    "ride_inaturalist18_100": Named(_RIDE_INATURALIST, "RIDE, released configuration"),
    "untrained": Named(_UNTRAINED, "ours: no epoch at all, for heads that are described as built"),
    "assignment_5": Named(
        _UNTRAINED.model_copy(update={"epochs": 5, "batch": 512}),
        "ours: 5 epochs, hence 4 refreshes of an assignment to be timed, as DL2PA Fig. 3c averages",
    ),
}


def recipe(name: str, changes: Mapping[str, Any]) -> tuple[Recipe, str]:
    """Give a named recipe with some fields changed, and its name for people.

    Raises ValueError for an unknown name, with a suggestion; pydantic's ValidationError for fields.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown recipe {name!r}. {hint}Recipes: {', '.join(sorted(RECIPES))}.")
    base = RECIPES[name].recipe
    if not changes:
        return base, name
    changed = Recipe.model_validate({**base.model_dump(), **changes})
    fields = base.model_dump()
    different = [
        f"{field}={_show(value)}"
        for field, value in changed.model_dump().items()
        if value != fields[field]
    ]
    return changed, " ".join([name, *different])


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(_show(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
