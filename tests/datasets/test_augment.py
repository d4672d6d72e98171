import pytest
import torch
from torchvision.transforms import RandomErasing, v2

from datasets.augment import POLICIES, VIEWS, Augment, Change, drawing, erase, fit, holes

SEEDS = range(40)


def augment(size=(16, 12), **options):
    return Augment(Change(**options), size=size)


@pytest.fixture(scope="module")
def image():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 16, 12), dtype=torch.uint8, generator=generator)


def changed(change, image, seed):
    """The image that torchvision's own transforms make, one after the other, from this seed."""
    torch.manual_seed(seed)
    return v2.Compose(change)(image)


@pytest.mark.parametrize(
    "options, theirs",
    [
        ({"augment": "crop"}, [v2.RandomCrop((16, 12), 4)]),
        ({"augment": "crop_flip"}, [v2.RandomCrop((16, 12), 4), v2.RandomHorizontalFlip()]),
        (
            {"augment": "resized_crop_flip"},
            [v2.RandomResizedCrop((16, 12), (0.08, 1), (3 / 4, 4 / 3)), v2.RandomHorizontalFlip()],
        ),
        ({"policy": "trivial"}, [v2.TrivialAugmentWide()]),
        (
            {"policy": "auto_cifar10"},
            [v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=(128, 128, 128))],
        ),
        (
            {"policy": "auto_imagenet"},
            [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, fill=(128, 128, 128))],
        ),
        ({"policy": "rand"}, [v2.RandAugment(2, 9, 31, fill=(128, 128, 128))]),
        ({"rotation": 15.0}, [v2.RandomRotation(15)]),
        ({"grey": 0.2}, [v2.RandomGrayscale(0.2)]),
        ({"blur": 0.5}, [v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5)]),
        (
            {"jitter": 0.4, "hue": 0.1, "jittered": 0.8},
            [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)],
        ),
        (
            {"augment": "crop_flip", "rotation": 15.0},
            [v2.RandomCrop((16, 12), 4), v2.RandomHorizontalFlip(), v2.RandomRotation(15)],
        ),
        ({"jitter": 0.4}, [v2.ColorJitter(0.4, 0.4, 0.4, 0)]),
        (
            {"augment": "resized_crop_flip", "policy": "trivial", "jitter": 0.4},
            [
                v2.RandomResizedCrop((16, 12)),
                v2.RandomHorizontalFlip(),
                v2.TrivialAugmentWide(),
                v2.ColorJitter(0.4, 0.4, 0.4),
            ],
        ),
    ],
)
def test_against_torchvision(image, options, theirs):
    ours = augment(**options)
    made = []
    with torch.random.fork_rng():
        for seed in SEEDS:
            mine, box = ours(image, seed)
            assert torch.equal(mine, changed(theirs, image, seed)), seed
            assert mine.dtype == torch.uint8 and mine.shape == image.shape and not box.any()
            made.append(mine)
    # each image has a draw of its own, be it only whether
    assert len(torch.unique(torch.stack(made), dim=0)) > (1 if "grey" in options else 15)


def test_the_contrastive_view_is_that_of_moco_v2(image):
    theirs = [
        v2.RandomResizedCrop((16, 12), (0.2, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5),
    ]
    ours = Augment(VIEWS["contrastive"], size=(16, 12))
    with torch.random.fork_rng():
        for seed in SEEDS:
            assert torch.equal(ours(image, seed)[0], changed(theirs, image, seed))


def test_blur_reaches_three_deviations():
    """The kernel is wide enough for two pixels: beyond lies less than half a level."""
    from torchvision.transforms.v2 import functional

    point = torch.zeros(1, 33, 33)
    point[0, 16, 16] = 255
    narrow = functional.gaussian_blur(point, [13, 13], [2.0, 2.0])
    wide = functional.gaussian_blur(point, [31, 31], [2.0, 2.0])
    assert (narrow - wide).abs().max() < 0.5


def test_holes_by_hand():
    """A hole of 4 pixels reaches two up and left of its centre and one down and right."""
    boxes = holes(3000, 4, (6, 5), torch.Generator().manual_seed(0))
    spans = {
        6: [(0, 2), (0, 3), (0, 4), (1, 4), (2, 4), (3, 3)],
        5: [(0, 2), (0, 3), (0, 4), (1, 4), (2, 3)],
    }
    for extent, (start, length) in ((6, (0, 2)), (5, (1, 3))):
        found = list(zip(boxes[:, start].tolist(), boxes[:, length].tolist(), strict=True))
        assert set(found) == set(spans[extent])
        share = 1 / extent
        for each in spans[extent]:
            assert abs(found.count(each) - 3000 * share) < 5 * (3000 * share * (1 - share)) ** 0.5
    assert not holes(9, 0, (6, 5))[:, 2:].any()


def test_cutout(image):
    bright = image.clamp(min=1)
    kept = bright.clone()
    whole = augment(cutout=8)
    places = set()
    for seed in SEEDS:
        mine, box = whole(bright, seed)
        black = (mine == 0).all(dim=0)
        assert torch.equal(mine[:, ~black], bright[:, ~black]) and not box.any()
        rows, columns = black.any(dim=1).nonzero(), black.any(dim=0).nonzero()
        assert 4 <= len(rows) <= 8 and 4 <= len(columns) <= 8
        assert black.sum() == len(rows) * len(columns)  # one rectangle
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 10
    assert torch.equal(bright, kept)  # what lies in memory stays whole


def test_which_changes_are_batched():
    for options in ({}, {"augment": "crop", "padding": 2}, {"augment": "crop_flip", "cutout": 16}):
        assert Change(**options).batched
    for options in (
        *({"augment": "resized_crop_flip"}, {"policy": "rand"}, {"rotation": 15.0}, {"grey": 0.1}),
        *({"jitter": 0.1}, {"hue": 0.1}, {"blur": 0.1}, {"erasing": 0.1}),
    ):
        assert not Change(**options).batched


def test_nothing_is_nothing(image):
    same, box = augment()(image, 3)
    assert torch.equal(same, image) and box.tolist() == [0, 0, 0, 0]


def test_boxes_are_those_of_torchvision(image):
    ours = augment(erasing=1.0)
    with torch.random.fork_rng():
        for seed in SEEDS:
            _, box = ours(image, seed)
            torch.manual_seed(seed)
            torch.rand(1)  # whether at all
            i, j, h, w, value = RandomErasing.get_params(
                image, (0.02, 0.33), (0.3, 3.3), value=[0.0]
            )
            want = [0] * 4 if value is image else [i, j, h, w]
            assert box.tolist() == want


def test_erasing_is_as_frequent_as_asked(image):
    boxes = torch.stack([augment(erasing=0.25)(image, seed)[1] for seed in range(2000)])
    share = (boxes[:, 2] > 0).double().mean().item()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 2000) ** 0.5
    areas = (boxes[:, 2] * boxes[:, 3]).double()[boxes[:, 2] > 0] / (16 * 12)
    assert 0 < areas.min() and areas.max() < 0.4


def test_erase_against_the_naive_twin():
    images = torch.rand(4, 3, 6, 5) + 1
    boxes = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 2], [0, 0, 6, 5], [5, 4, 1, 1]])
    want = images.clone()
    for image, (top, left, height, width) in zip(want, boxes.tolist(), strict=True):
        image[:, top : top + height, left : left + width] = 0
    erase(images, boxes)
    assert torch.equal(images, want)
    assert (want == 0).sum() == 3 * (6 + 30 + 1)


def test_the_global_generator_is_put_back(image):
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    augment(augment="resized_crop_flip", policy="trivial", jitter=0.4, erasing=1.0)(image, 1)
    with pytest.raises(KeyError), drawing(7):
        torch.rand(3)
        raise KeyError
    assert torch.cat([first, torch.rand(1)]).tolist() == want.tolist()


def test_gray_images():
    image = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    both = {"augment": "crop_flip", "jitter": 0.4, "hue": 0.1, "grey": 0.5, "blur": 0.5}
    for policy in POLICIES:
        change = augment(**both, policy=policy, rotation=15.0, cutout=4, size=(8, 8))
        for seed in SEEDS:
            assert change(image, seed)[0].shape == (1, 8, 8)


def test_fit():
    images = torch.arange(2 * 3 * 8 * 6).reshape(2, 3, 8, 6).to(torch.uint8)
    assert fit(images, (8, 6)) is images
    assert torch.equal(fit(images, (4, 4), 6), images[:, :, 2:6, 1:5])  # the shorter side is 6
    assert fit(images, (3, 3), 3).shape == (2, 3, 3, 3)
    level = torch.full((3, 9, 7), 90, dtype=torch.uint8)
    assert (fit(level, (5, 5), 6) == 90).all()
    for size, resize in (((4, 4), 0), ((9, 9), 0), ((7, 7), 6)):
        with pytest.raises(ValueError, match="Set `size` and `resize` in the recipe"):
            fit(images, size, resize)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"augment": "flip"}, "unknown augmentation 'flip'. Choose one of: none, crop, crop_flip"),
        ({"policy": "auto"}, "unknown policy 'auto'. Choose one of: none, trivial, auto_cifar10"),
        ({"jitter": 1.5}, r"jitter is a share in \[0, 1\], got 1.5"),
        ({"erasing": -0.1}, "erasing is a share"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        augment(**options)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_the_form(image, policy):
    for seed in SEEDS:
        mine, _ = augment(policy=policy)(image, seed)
        assert mine.shape == image.shape and mine.dtype == torch.uint8
