"""Prototypes learned by their distances to frozen features, starting at the class means.

Sharma, Xian, Yu, Singh. "Learning Prototype Classifiers for Long-Tailed Recognition." IJCAI 2023,
arXiv:2302.00491.

A softmax lengthens the weights of frequent classes; a distance to a point gives no class such a
lever. So score by the distance to one prototype per class, start at the class means, learn the
prototypes, and let each channel have a temperature.

    p(y | x) = softmax(−½ d(z, c))ᵧ                                            (1)
    d(z, c_k) = √ Σⱼ (z − c_k)ⱼ²                     "euclidean"               (2)
                Σⱼ (z − c_k)ⱼ²                       "squared"
                1 − cos(z, c_k)                      "cosine"
    d(z, c_k) = √ Σⱼ (z − c_k)ⱼ² / Tⱼ                temperatures, "paper"     (4)
                √ Σⱼ (z − c_k)ⱼ² / Tⱼ²               temperatures, "released"
    L = mean −log softmax(−½ d(z, c) + τ log N)ᵧ     in training only          (5)

    z  embedding, of a frozen backbone     c_k  prototypes[k]     T  temperatures, 1 at the start
    N_k  examples of class k     τ  adjust

With (2) a sample pulls its own prototype by (1 − p_y)/2 and pushes the others by p_k/2, however far
they are: the paper's theorem 1, whose norms lack the ½ that stands in (1). With "squared" these
grow with the distance. The step of a prototype is thus a length in the units of the features: the
rate 4 belongs to the paper's 512 features and may suit no other backbone, nor another distance.

Where we differ. Form of the temperatures: the released code squares T, and its rate belongs to that
form, our default; both read |T|, at least 0.001, where the sources leave the sign open. They
stretch features and prototypes by T^−½ or T⁻¹, under the cosine too; −½ d then spans half a unit,
and the paper does not say how it trained its Table 2: hence a `scale` for the cosine. The means are
of plain images; in the released code, of augmented ones. A class without examples starts at the
origin and counts like the rarest that has some. Distances come from lengths and products, so that
(batch, classes, dim) is never laid out; one that rounding could swallow has no gradient.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Head, Needs, Problem, Rate
from heads.checks import one_of
from heads.geometry import cosine, filled

SCALE = 0.5
COLDEST = 1e-3  # smallest |T|: ours, a tenth of a per cent of where it starts
MANY, FEW = 100, 20  # more than, fewer than: arXiv:1910.09217 and the released code
ROUNDING = 8  # of squared distances, in units of the last place: ours, we saw 6 at most, in dim 512


@final
class Prototypes(Head):
    """Nearest learned prototype. The defaults are the paper's full method, "PC + CDT + LA".

    distance           "euclidean", the paper; "squared" and "cosine", its Table 2
    scale              factor of 1 − cos in the score, only with "cosine"; 0.5, the ½ of (1)
    temperatures       learn one per channel; True, the paper. False: none at all
    form               "released": ((z − c)/T)², released code, to which the rates belong; "paper":
                       (z − c)²/T, eq. 4
    adjust             τ of the logit adjustment; 0.25, sec. 4.3. 0: none; 0.263 (1/3.8), the
                       released code
    prototype_lr       rate of the prototypes, without weight decay; 4, sec. 4.3; 4.2, the released
                       code
    temperature_lr     rate of the temperatures; 0.005, sec. 4.3
    temperature_decay  weight decay of the temperatures; 2e-4, released code
    """

    counts: Tensor
    prior: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        distance: str = "euclidean",
        scale: float = SCALE,
        temperatures: bool = True,
        form: str = "released",
        adjust: float = 0.25,
        prototype_lr: float = 4.0,
        temperature_lr: float = 0.005,
        temperature_decay: float = 2e-4,
    ) -> None:
        super().__init__()
        one_of("distance", distance, ("euclidean", "squared", "cosine"))
        one_of("form", form, ("released", "paper"))
        if scale <= 0:
            raise ValueError(f"prototypes needs a positive scale, got {scale}. Set `scale: 0.5`.")
        if distance != "cosine" and scale != SCALE:
            raise ValueError(
                f"prototypes uses its scale with cosines only, got scale {scale} with distance "
                f"{distance!r}. Set `distance: cosine`, or leave the scale out."
            )
        if form != "released" and not temperatures:
            raise ValueError(
                f"prototypes has no form without temperatures, got {form!r}. "
                "Set `temperatures: true`, or leave the form out."
            )
        if adjust < 0:
            raise ValueError(
                f"prototypes needs an adjust of 0 or more, got {adjust}. Set `adjust: 0.25`."
            )
        self.dim = problem.width
        self.distance = distance
        self.scale = scale
        self.form = form
        self.adjust = adjust
        self.prototypes = nn.Parameter(torch.zeros(problem.classes, problem.width))
        self.temperatures = nn.Parameter(torch.ones(problem.width)) if temperatures else None
        self.register_buffer("counts", problem.counts.clone())
        self.register_buffer("prior", filled(problem.counts).log().float())
        self._rates = {"prototypes": Rate(prototype_lr, 0.0)}
        if temperatures:
            self._rates["temperatures"] = Rate(temperature_lr, temperature_decay)

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone."""
        return Needs(frozen=True)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Start at the means of all training features, (examples, width), labels (examples,)."""
        start = self.prototypes.data.zero_()
        start.index_add_(0, labels, features.to(start.dtype))
        start /= torch.bincount(labels, minlength=len(start)).clamp_min(1)[:, None]

    def score(self, embedding: Tensor) -> Tensor:
        """−½ distance to each prototype, (batch, classes)."""
        if self.distance == "cosine":
            stretch = self._stretch()
            return self.scale * (cosine(embedding * stretch, self.prototypes * stretch) - 1)
        # Distances stay where both move alike, and rounding is least around the prototypes.
        centre = self.prototypes.detach().mean(0)
        moved = (embedding - centre) * self._stretch()
        places = (self.prototypes - centre) * self._stretch()
        lengths = moved.square().sum(1)[:, None] + places.square().sum(1)
        squared = lengths - 2 * (moved @ places.T)
        if self.distance == "squared":
            return -0.5 * squared
        small = torch.finfo(squared.dtype)
        floor = ROUNDING * small.eps * lengths.detach() + small.tiny
        return -0.5 * torch.where(squared > floor, squared, floor).sqrt()

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, logits adjusted by the class counts."""
        return functional.cross_entropy(self.score(embedding) + self.adjust * self.prior, labels)

    def rates(self) -> Mapping[str, Rate]:
        """Rates of prototypes and temperatures: whatever the recipe's is."""
        return self._rates

    def class_vectors(self) -> Tensor:
        """Prototypes, (classes, dim)."""
        return self.prototypes

    def linear(self) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of the same scores, up to what all classes share; "squared" only.

        −½ ‖z − c‖² = cᵀz − ½ ‖c‖² − ½ ‖z‖², the paper's sec. 3.3.
        """
        if self.distance != "squared":
            return None
        weight = self.prototypes * self._stretch().square()
        return weight, -0.5 * (weight * self.prototypes).sum(1)

    def readings(self) -> Mapping[str, float]:
        """How the prototypes lie, Fig. 3, and the range of the temperatures.

        distance_…, cosine_…  mean over pairs of two different classes: all, many_many, many_few,
                              few_few; left out where there is no such pair
        temperature_min, temperature_max  as they stand, with their sign
        """
        points = self.prototypes.detach()
        found = _separation(points, self.counts)
        if self.temperatures is not None:
            coldest, hottest = self.temperatures.detach().aminmax()
            found |= {"temperature_min": float(coldest), "temperature_max": float(hottest)}
        return found

    def _stretch(self) -> Tensor:
        """Factor of each channel, (dim,)."""
        if self.temperatures is None:
            return self.prototypes.new_ones(())
        temperature = self.temperatures.abs().clamp_min(COLDEST)
        return temperature.rsqrt() if self.form == "paper" else temperature.reciprocal()


def _separation(points: Tensor, counts: Tensor) -> dict[str, float]:
    """Mean distance and mean cosine of pairs of classes, by group."""
    many, few = counts > MANY, counts < FEW
    everyone = torch.ones_like(many)
    groups = {
        "all": (everyone, everyone),
        "many_many": (many, many),
        "many_few": (many, few),
        "few_few": (few, few),
    }
    # Not cdist's default, which would place near points at 0.
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    cosines = cosine(points, points).fill_diagonal_(0)
    found = {}
    for name, (these, those) in groups.items():
        pairs = int(these.sum()) * int(those.sum()) - int((these & those).sum())
        if pairs:
            found[f"distance_{name}"] = float(apart[these][:, those].sum() / pairs)
            found[f"cosine_{name}"] = float(cosines[these][:, those].sum() / pairs)
    return found
