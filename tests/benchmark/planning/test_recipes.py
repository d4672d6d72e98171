"""The named recipes against the figures of the papers and of their released code."""

import pytest
from pydantic import ValidationError

from benchmark.planning.recipes import LATER, RECIPES, Recipe, recipe


def fields(name):
    return RECIPES[name].recipe.model_dump()


# Saadabadi et al., arXiv:2403.16937, sec. 7.1; Mettes et al., arXiv:1901.10514, hpn_cifar.py:
# SGD at 0.01 with momentum 0.9, decay 1e-4, batch 128, 250 epochs, tenfold down at 100 and 200
def test_balanced():
    own = fields("balanced_250")
    assert (own["epochs"], own["batch"]) == (250, 128)
    assert (own["lr"], own["momentum"], own["nesterov"]) == (0.01, 0.9, False)
    assert own["weight_decay"] == 1e-4
    assert own["schedule"] == "step" and own["gamma"] == 0.1
    assert [share * 250 for share in own["milestones"]] == [100, 200]
    assert own["warmup"] == 0 and own["mixup"] == 0
    assert (own["augment"], own["padding"]) == ("crop_flip", 4)
    assert not own["drop_last"] and not own["flip"] and own["oracle"] == 0
    assert own["normalise"] == "dataset"


# Yang et al., arXiv:2203.09081 and arXiv:2403.16937 sec. 7.2, released configurations: SGD at 0.1,
# momentum 0.9, decay 2e-4, batch 128, 200 epochs; five epochs of warm-up in steps of lr/5, tenfold
# down after 160 and 180; mixup with alpha 1
def test_long_tail():
    own = fields("long_tail_200")
    assert (own["epochs"], own["batch"]) == (200, 128)
    assert (own["lr"], own["momentum"], own["nesterov"]) == (0.1, 0.9, False)
    assert own["weight_decay"] == 2e-4
    assert own["schedule"] == "step" and own["gamma"] == 0.1
    assert [share * 200 for share in own["milestones"]] == [160, 180]
    assert own["warmup"] * 200 == own["warmup_stairs"] == 5
    assert own["mixup"] == 1.0
    assert (own["augment"], own["padding"]) == ("crop_flip", 4)
    assert not own["drop_last"] and not own["flip"] and own["oracle"] == 0
    assert own["normalise"] == "dataset"


# arXiv:2403.16937 sec. 7.1: SGD at 0.5, five epochs of linear warm-up, cosine, batch 1024, decay
# 2e-5, 100 epochs, mixup with 1.0; for Swin-T AdamW at 0.001
def test_imagenet():
    own = fields("imagenet_100")
    assert (own["epochs"], own["batch"], own["lr"], own["optimizer"]) == (100, 1024, 0.5, "sgd")
    assert (own["weight_decay"], own["schedule"]) == (2e-5, "cosine")
    assert own["warmup"] * 100 == own["warmup_stairs"] == 5
    assert (own["mixup"], own["cutmix"], own["hard_labels"]) == (1.0, 0.0, False)
    assert (own["augment"], own["size"], own["resize"]) == ("resized_crop_flip", 224, 256)
    assert own["precision"] == "bf16"
    assert fields("swin_100") == {**own, "optimizer": "adamw", "lr": 0.001}
    released = fields("imagenet_100_released")
    assert released.pop("warmup") * 105 == pytest.approx(5)
    want = {"epochs": 105, "mixup": 0.2, "cutmix": 1.0, "hard_labels": True, "oracle": 1}
    want |= {"policy": "trivial", "erasing": 0.1}
    assert released == {**{k: v for k, v in own.items() if k != "warmup"}, **want}


# arXiv:2203.09081, released configurations: cosine over 90 epochs at 0.1, batch 1024, decay 5e-4,
# mixup with 0.2, jitter of 0.4; arXiv:2403.16937 sec. 7.2 has its one long-tailed protocol instead
def test_imagenet_lt():
    own = fields("imagenet_lt_90")
    assert (own["epochs"], own["batch"], own["lr"], own["momentum"]) == (90, 1024, 0.1, 0.9)
    assert (own["weight_decay"], own["schedule"], own["warmup"]) == (5e-4, "cosine", 0)
    assert (own["mixup"], own["jitter"], own["policy"], own["erasing"]) == (0.2, 0.4, "none", 0)
    assert (own["augment"], own["size"], own["resize"]) == ("resized_crop_flip", 224, 256)
    images = {"augment": "resized_crop_flip", "size": 224, "resize": 256}
    assert fields("imagenet_lt_200") == {**fields("long_tail_200"), **images}
    assert fields("long_tail_200_plain") == {**fields("long_tail_200"), "augment": "none"}


# Cao et al., arXiv:1906.07413, released code: 0.1, decay 2e-4, batch 128, 200 epochs, five of
# warm-up in steps of lr/5, a hundredth after 160 and after 180; no mixup
def test_cross_entropy():
    own = fields("cross_entropy_200")
    assert own == {**fields("long_tail_200"), "gamma": 0.01, "mixup": 0.0}
    beside = {"oracle": 1, "normalise": "cifar10"}
    assert fields("cross_entropy_200_released") == {**own, **beside}


# arXiv:2302.00491 sec. 4.3; arXiv:2203.14197, released code for CIFAR-100 at 1:100
def test_weight_decay():
    own = fields("weight_decay_200")
    assert (own["epochs"], own["batch"], own["lr"], own["momentum"]) == (200, 64, 0.01, 0.9)
    assert (own["weight_decay"], own["schedule"], own["warmup"]) == (5e-3, "cosine", 0)
    assert (own["mixup"], own["augment"], own["sampler"]) == (0, "crop_flip", "instance")
    beside = {"epochs": 320, "oracle": 1, "flip": True, "normalise": "cifar10"}
    assert fields("weight_decay_320_released") == {**own, **beside}
    assert fields("max_norm") == {**own, "epochs": 10, "weight_decay": 0.1}


# arXiv:2302.00491 sec. 4.3 and released code: one epoch of 50,000 images in steps of 64
def test_prototypes():
    own = fields("prototypes")
    assert (own["epochs"], own["batch"], own["lr"], own["momentum"]) == (1, 64, 0.005, 0.9)
    assert (own["weight_decay"], own["schedule"]) == (2e-4, "constant")
    assert (own["policy"], own["cutout"], own["augment"]) == ("auto_cifar10", 16, "crop_flip")
    assert (own["sampler"], own["epoch_images"]) == ("class_balanced", "largest")
    assert own["batch_norm"] == "frozen"
    photographs = {"augment": "resized_crop_flip", "size": 224, "resize": 256}
    larger = {**own, **photographs, "policy": "auto_imagenet"}
    assert fields("prototypes_imagenet_lt") == larger
    assert fields("prototypes_inaturalist18") == {**larger, "batch": 512}


# Bag of Tricks (AAAI 2021), released configuration for CIFAR; arXiv:1910.09217 for photographs
def test_crt():
    own = fields("crt")
    assert (own["epochs"], own["batch"], own["lr"]) == (30, 128, 0.1)
    assert (own["weight_decay"], own["gamma"]) == (5e-4, 0.1)
    assert [round(share * 30, 9) for share in own["milestones"]] == [10, 20]
    assert own["warmup"] * 30 == pytest.approx(5) and own["warmup_stairs"] == 5
    assert (own["sampler"], own["epoch_images"]) == ("class_balanced", "natural")
    for name in ("crt", "max_norm"):
        assert fields(f"{name}_released") == {**fields(name), "batch_norm": "released"}
    for name, epochs, decay, jitter in (
        ("crt_imagenet_lt", 10, 5e-4, 0.4),
        ("crt_inaturalist18", 30, 1e-4, 0.0),
    ):
        larger = fields(name)
        assert (larger["epochs"], larger["batch"], larger["lr"]) == (epochs, 512, 0.2)
        assert (larger["weight_decay"], larger["jitter"]) == (decay, jitter)
        assert (larger["schedule"], larger["warmup"], larger["size"]) == ("cosine", 0, 224)
        assert larger["sampler"] == "class_balanced"


# arXiv:2104.03066, released code: 80 epochs of features at 0.005, 20 of the classifier at 0.01
def test_dro_lt():
    own = fields("dro_lt")
    assert (own["epochs"], own["batch"], own["lr"], own["weight_decay"]) == (80, 128, 0.005, 1e-4)
    assert (own["schedule"], own["policy"], own["cutout"]) == ("constant", "auto_cifar10", 16)
    assert (own["sampler"], own["epoch_images"]) == ("class_balanced", "largest")
    assert fields("crt_dro_lt") == {**own, "epochs": 20, "lr": 0.01}


# arXiv:2107.12028, paco_cifar.py
def test_paco():
    own = fields("paco_400")
    assert (own["epochs"], own["batch"], own["lr"], own["weight_decay"]) == (400, 128, 0.05, 5e-4)
    assert [share * 400 for share in own["milestones"]] == [320, 360] and own["gamma"] == 0.1
    assert own["warmup"] * 400 == own["warmup_stairs"] == 10
    assert (own["policy"], own["cutout"], own["second_view"]) == ("auto_cifar10", 16, "contrastive")
    assert own["drop_last"] and own["mixup"] == 0


# arXiv:2010.01809, config_imbalance_cifar100_ride.json and its data loader
def test_ride():
    own = fields("ride_200")
    turned = {"weight_decay": 5e-4, "nesterov": True, "rotation": 15.0}
    assert own == {**fields("cross_entropy_200"), **turned}
    larger = fields("ride_imagenet_lt_100")
    assert (larger["epochs"], larger["batch"], larger["lr"]) == (100, 256, 0.1)
    assert [share * 100 for share in larger["milestones"]] == [60, 80] and larger["gamma"] == 0.1
    assert larger["weight_decay"] == 2e-4 and larger["warmup"] * 100 == 5 and larger["nesterov"]
    assert larger["rotation"] == 0 and larger["jitter"] == 0.4
    assert fields("ride_inaturalist18_100") == {**larger, "jitter": 0, "batch": 512, "lr": 0.2}


# arXiv:2007.07314, released code: epochs at which the rate falls, of 1,419; 84 steps in each of the
# 22 in which it climbs; a sum of squares whose derivative is twice the weight
def test_logit_adjustment():
    own = fields("logit_adjustment_1419")
    assert [round(share * 1419, 9) for share in own["milestones"]] == [691, 1059, 1290]
    assert own["warmup"] * 1419 == pytest.approx(22) and own["warmup_stairs"] == 22 * (10847 // 128)
    assert own["weight_decay"] == 2 * 1e-4 and own["nesterov"] and own["drop_last"]
    assert own["padding"] * 2 + 32 == 36


# a stage after an arrow takes the recipe that bears its head's name
@pytest.mark.parametrize("head", ["crt", "max_norm", "disalign", "prototypes", "dro_lt"])
def test_later_stages_have_a_recipe_of_their_name(head):
    assert head in RECIPES and fields(head)["mixup"] == 0 and fields(head)["precision"] == "bf16"


def test_untrained():
    own = fields("untrained")
    assert (own["epochs"], own["precision"], own["augment"]) == (0, "float32", "none")
    assert own["mixup"] == own["cutmix"] == own["oracle"] == 0


# what the released code does beside: the best test epoch, and the constants of CIFAR-10 for all
@pytest.mark.parametrize(
    "name, differs",
    [
        ("balanced_250", {"oracle": 1}),
        ("long_tail_200", {"oracle": 1, "normalise": "cifar10"}),
    ],
)
def test_released(name, differs):
    assert fields(f"{name}_released") == {**fields(name), **differs}


def test_quick_is_for_small_digits():
    own = fields("quick")
    assert own["precision"] == "float32" and own["augment"] == "crop" and own["padding"] == 1
    assert (own["epochs"], own["batch"], own["lr"], own["schedule"]) == (30, 64, 0.1, "cosine")


def test_every_recipe_names_its_source():
    assert set(RECIPES) == {
        *("quick", "long_tail_200", "long_tail_200_released"),
        *("balanced_250", "balanced_250_released", "long_tail_200_plain"),
        *("imagenet_100", "imagenet_100_released", "swin_100"),
        *("imagenet_lt_90", "imagenet_lt_200", "untrained", "assignment_5"),
        *("cross_entropy_200", "cross_entropy_200_released", "weight_decay_200", "paco_400"),
        *("weight_decay_320_released", "logit_adjustment_1419", "ride_200", "crt", "crt_released"),
        *("max_norm", "max_norm_released", "disalign", "prototypes", "dro_lt", "crt_dro_lt"),
        *("cross_entropy_imagenet_lt_90", "cross_entropy_inaturalist18_200"),
        *("weight_decay_imagenet_lt_200", "weight_decay_inaturalist18_200"),
        *("crt_imagenet_lt", "crt_inaturalist18", "max_norm_imagenet_lt", "disalign_imagenet_lt"),
        *("prototypes_imagenet_lt", "prototypes_inaturalist18"),
        *("ride_imagenet_lt_100", "ride_inaturalist18_100"),
    }
    for name, each in RECIPES.items():
        assert each.source
        assert Recipe.model_validate(each.recipe.model_dump()) == each.recipe, name
        assert Recipe.model_validate(dict(each.recipe.pairs())) == each.recipe, name


# The fields of the first cells, all of them, and one more since: nothing at its default is added.
FIRST = {
    *("epochs", "batch", "lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones"),
    *("gamma", "warmup", "warmup_stairs", "mixup", "augment", "padding", "precision"),
    *("normalise", "drop_last", "oracle", "flip"),
}


@pytest.mark.parametrize("name", ["quick", "long_tail_200_released", "balanced_250"])
def test_cells_that_exist_keep_their_fields(name):
    assert set(dict(RECIPES[name].recipe.pairs())) == FIRST
    assert set(Recipe.model_fields) == FIRST | LATER and not FIRST & LATER


@pytest.mark.parametrize(
    "changes",
    [
        *({"optimizer": "adamw"}, {"cutmix": 0.5}, {"hard_labels": True}, {"policy": "trivial"}),
        *({"jitter": 0.4}, {"erasing": 0.1}, {"size": 224}, {"size": 224, "resize": 256}),
        *({"area": 0.2}, {"rotation": 15.0}, {"hue": 0.1}, {"jittered": 0.8}, {"grey": 0.2}),
        *({"blur": 0.5}, {"cutout": 16}, {"second_view": "contrastive"}),
        *({"sampler": "square_root"}, {"batch_norm": "released"}),
        {"sampler": "class_balanced", "epoch_images": "largest"},
    ],
    ids=str,
)
def test_a_later_field_is_written_where_it_says_something(changes):
    changed, _ = recipe("quick", changes)
    written = dict(changed.pairs())
    assert written == {**dict(RECIPES["quick"].recipe.pairs()), **changes}
    assert Recipe.model_validate(written) == changed
    back, _ = recipe("quick", {name: Recipe.model_fields[name].default for name in changes})
    assert back.pairs() == RECIPES["quick"].recipe.pairs()


def test_a_shortened_run_is_the_same_run_in_small():
    short, name = recipe("balanced_250", {"epochs": 50})
    assert name == "balanced_250 epochs=50"
    assert [share * short.epochs for share in short.milestones] == [20, 40]


def test_the_name_says_what_was_changed():
    same, name = recipe("quick", {"epochs": 30, "lr": 0.1})
    assert name == "quick" and same == RECIPES["quick"].recipe
    _, name = recipe("long_tail_200", {"milestones": (0.5, 0.75), "lr": "1e-2", "flip": True})
    assert name == "long_tail_200 lr=0.01 milestones=0.5/0.75 flip=True"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: value} for name in ("batch", "warmup_stairs") for value in (0, -1, 1.5)),
        *({name: value} for name in ("epochs", "size", "resize") for value in (-1, 1.5, "all")),
        *({name: True} for name in ("epochs", "lr", "mixup", "oracle", "momentum", "padding")),
        *({name: True} for name in ("cutmix", "jitter", "erasing", "size", "optimizer")),
        *({name: 1.1} for name in ("jitter", "erasing", "jittered", "grey", "blur", "area")),
        *({name: -0.1} for name in ("rotation", "hue", "grey", "blur", "area")),
        *({name: True} for name in ("rotation", "cutout", "sampler", "blur", "batch_norm")),
        *({"area": 0}, {"hue": 0.6}, {"rotation": 181}, {"cutout": -1}, {"cutout": 1.5}),
        *({"second_view": "other"}, {"sampler": "class_aware"}, {"batch_norm": "moving"}),
        {"epoch_images": "largest"},  # of instances
        *(
            {name: value}
            for name in (
                *("lr", "momentum", "weight_decay", "gamma", "warmup", "mixup"),
                *("cutmix", "jitter", "erasing"),
            )
            for value in (-0.1, float("nan"), float("inf"), "fast", None)
        ),
        {"lr": 0},
        {"gamma": 0},
        {"momentum": 1.1},
        {"padding": -1},
        {"oracle": -1},
        {"schedule": "stairs"},
        {"augment": "flip"},
        {"precision": "float16"},
        {"normalise": "cifar100"},
        {"nesterov": "perhaps"},
        {"hard_labels": "perhaps"},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "nesterov": True},
        {"policy": "random"},
        {"resize": 256},  # the middle of what size?
        {"resize": 256, "size": 257},
        {"schedule": "step"},  # without milestones
        {"milestones": (0.5,)},  # without steps
        {"schedule": "step", "milestones": (1.5,)},
        {"schedule": "step", "milestones": (float("nan"),)},
        {"schedule": "step", "milestones": (True,)},
        {"schedule": "step", "milestones": 0.5},
        {"epoch": 30},
        {1: 2},
    ],
    ids=str,
)
def test_what_a_recipe_refuses(changes):
    with pytest.raises(ValidationError):
        recipe("quick", changes)


def test_a_frozen_value():
    with pytest.raises(ValidationError):
        RECIPES["quick"].recipe.lr = 1.0


def test_unknown():
    with pytest.raises(ValueError, match=r"unknown recipe 'quik'\. Did you mean 'quick'\? Recipes"):
        recipe("quik", {})
    with pytest.raises(ValueError, match=r"unknown recipe 'zzz'\. Recipes: .*balanced_250, "):
        recipe("zzz", {})
