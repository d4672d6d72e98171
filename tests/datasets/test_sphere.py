import pytest
import torch

from datasets import DATASETS
from datasets.sphere import NOISE

SPHERE = DATASETS["sphere"]


def load(classes, **options):
    return SPHERE.load({"name": "sphere", "classes": classes, **options}, "/nowhere")


def test_material():
    material = load(100)
    assert material.train.images.shape == (400, *SPHERE.shape)
    assert material.train.images.dtype == torch.uint8
    assert material.counts == (4,) * 100 and len(material.test) == 100
    assert material.names[:2] == ("direction_0", "direction_1") and len(material.names) == 100
    assert load(100, ratio=4).counts[-1] == 1
    # what the images are must never move
    assert material.digest == "842cb2de18203d74f0599c176800f706aa202f434b3997ca7269ebb41a1a8e1e"


def test_constants_are_measured():
    pixels = SPHERE.read("/nowhere", classes=2000).train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(SPHERE.mean[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(SPHERE.std[0], abs=1e-3)
    # hardly anything is cut off: 6e-5 of a normal variable lie beyond 4 deviations
    assert ((pixels == 0) | (pixels == 1)).double().mean() < 1e-4


def test_images_lie_around_their_direction():
    images = SPHERE.read("/nowhere", classes=1000)

    def points(split):
        flat = split.images.flatten(1).double() - 128
        return flat / flat.norm(dim=1, keepdim=True)

    train, test = points(images.train), points(images.test)
    means = torch.nn.functional.normalize(train.reshape(1000, 4, 64).mean(1), dim=1)
    own = (means[images.test.labels] * test).sum(1)
    # a sample has cosine c with its direction, the mean of four c' > c
    c, four = (1 / (1 + NOISE**2 / n) ** 0.5 for n in (1, 4))
    assert own.mean().item() == pytest.approx(c * four, abs=0.01)
    assert ((means @ test.T).argmax(0) == images.test.labels).double().mean() > 0.95
    cosines = means @ means.T
    others = cosines[~torch.eye(1000, dtype=torch.bool)]
    assert abs(others.mean()) < 0.01 and others.std().item() == pytest.approx(1 / 8, abs=0.01)


def test_fewer_classes_are_the_first_of_more():
    few, many = SPHERE.read("/nowhere", classes=10), SPHERE.read("/nowhere", classes=50)
    assert torch.equal(few.train.images, many.train.images[:40])
    assert torch.equal(few.test.images, many.test.images[:10])
    assert few.digest != many.digest


def test_ten_thousand_classes():
    material = load(10_000)
    assert len(material.counts) == 10_000 and len(material.train) == 40_000


@pytest.mark.parametrize("classes", [None, 1, 0, True, 2.0, "100"])
def test_classes_must_be_given(classes):
    with pytest.raises(ValueError, match="needs the option `classes`, a whole number of at least"):
        load(classes)


def test_only_sphere_has_classes(tmp_path):
    with pytest.raises(ValueError, match="`folder` belongs to image_folder"):
        SPHERE.find(tmp_path, "x", 10)
    for name, data in DATASETS.items():
        if name != "sphere":
            with pytest.raises(ValueError, match=f"`classes` belongs to sphere, got 3 for {name}"):
                data.load({"name": name, "classes": 3}, tmp_path)
