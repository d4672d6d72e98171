import pytest
import torch
from torchvision.transforms import RandomErasing, v2

from datasets.augment import POLICIES, Augment, drawing, erase, fit

SEEDS = range(40)


def augment(**options):
    plain = {"augment": "none", "padding": 4, "policy": "none", "jitter": 0.0, "erasing": 0.0}
    return Augment(**{**plain, "size": (16, 12), "resize": 0, **options})


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
    assert len(torch.unique(torch.stack(made), dim=0)) > 20  # each image has a draw of its own


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
    change = augment(augment="crop_flip", policy="trivial", jitter=0.4, size=(8, 8))
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
        ({"policy": "auto"}, "unknown policy 'auto'. Choose one of: none, trivial"),
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
