"""The material: table of contents."""

from datasets.base import Dataset, Images, Material, MissingData, Split
from datasets.cifar import CIFAR10, CIFAR100
from datasets.digits import Digits
from datasets.image_folder import ImageFolder

DATASETS: dict[str, Dataset] = {
    "digits": Digits(),  # 10 classes, 8 x 8, embedded; Alpaydin, Kaynak 1998
    "cifar10": CIFAR10(),  # 10 classes, 32 x 32; Krizhevsky 2009
    "cifar100": CIFAR100(),  # 100 classes in 20 superclasses, 32 x 32; Krizhevsky 2009
    "image_folder": ImageFolder(),  # your own class folders
}

__all__ = ["DATASETS", "Dataset", "Images", "Material", "MissingData", "Split"]
