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
        *({name: 1.1} for name in ("jitter", "erasing")),
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
