"""The material: table of contents."""

from datasets.base import Dataset, Files, Images, Material, MissingData, Split
from datasets.cifar import CIFAR10, CIFAR100
from datasets.digits import Digits
from datasets.image_folder import ImageFolder
from datasets.imagenet import ImageNet, ImageNetLT
from datasets.inaturalist import INaturalist18
from datasets.sphere import Sphere
from datasets.stl10 import STL10
from datasets.svhn import SVHN, SVHNReleased
from datasets.tiny_imagenet import TinyImageNet

DATASETS: dict[str, Dataset] = {
    "digits": Digits(),  # 10 classes, 8 x 8, embedded; Alpaydin, Kaynak 1998
    "sphere": Sphere(),  # as many classes as you like, synthetic; for geometry and timing
    "cifar10": CIFAR10(),  # 10 classes, 32 x 32; Krizhevsky 2009
    "cifar100": CIFAR100(),  # 100 classes in 20 superclasses, 32 x 32; Krizhevsky 2009
    "svhn": SVHN(),  # 10 digits, 32 x 32; Netzer et al. 2011
    "svhn_released": SVHNReleased(),  # the same with the wrong labels of released long-tailed code
    "stl10": STL10(),  # 10 classes, 96 x 96; Coates, Ng, Lee 2011
    "tiny_imagenet": TinyImageNet(),  # 200 classes, 64 x 64; Le, Yang 2015
    "imagenet": ImageNet(),  # 1,000 classes, streamed; Russakovsky et al. 2015
    "imagenet_lt": ImageNetLT(),  # 1,000 classes, long-tailed by a list; Liu et al. 2019
    "inaturalist18": INaturalist18(),  # 8,142 species, long-tailed by itself; Van Horn et al. 2018
    "image_folder": ImageFolder(),  # your own class folders
}

__all__ = ["DATASETS", "Dataset", "Files", "Images", "Material", "MissingData", "Split"]
