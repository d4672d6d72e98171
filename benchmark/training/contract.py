"""The contract: what every head keeps, whoever wrote it. `check` and the tests run these clauses.

A clause is a function of a head's class that raises Broken, in one sentence, where it is not kept.
Frozen heads stand on the features of three blobs instead of a trained trunk.
"""

import copy
import inspect
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmark.planning.recipes import Recipe
from benchmark.training.points import keeper
from benchmark.training.train import Trunk, train
from heads.base import Clock, Head, Needs, Problem, Sweep

WIDTH = 16
CLASSES = 3
COUNTS = (40, 20, 5)  # house rule: three blobs at 40:20:5
STEPS = 50  # house rule
BATCH = 13  # 65 images make 5 steps an epoch, so that 10 epochs are 50 steps


class Broken(AssertionError):
    """A clause is not kept: the sentence says how."""


def problem(seed: int = 0, counts: tuple[int, ...] = COUNTS) -> Problem:
    """A small problem: 16 features, three classes, one of them with few examples."""
    generator = torch.Generator().manual_seed(9)
    return Problem(
        width=WIDTH,
        counts=torch.tensor(counts),
        names=tuple("abc"[: len(counts)]),
        words=torch.randn(len(counts), 8, generator=generator),
        source=torch.nn.functional.normalize(
            torch.randn(len(counts), WIDTH, generator=generator), dim=1
        ),
        seed=seed,
        points=keeper(len(counts)),
    )


def blobs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (65, 16) around three far centres, and their labels: 40, 20 and 5 of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(COUNTS))
    centres = 3 * torch.eye(CLASSES, WIDTH)
    return centres[labels] + 0.3 * torch.randn(len(labels), WIDTH, generator=generator), labels


def scores_are_finite(head: type[Head]) -> None:
    """Scores have shape (batch, classes) and are finite."""
    for mode in (True, False):
        own = _built(head).train(mode)
        scores = own.score(own.embed(_shaped(own, blobs()[0], mode)))
        _demand(scores.shape == (65, CLASSES), f"scores have shape {tuple(scores.shape)}")
        _demand(bool(scores.isfinite().all()), "a score is not finite")


def loss_has_a_gradient(head: type[Head]) -> None:
    """The loss is a finite scalar with a gradient to the embedding."""
    own = _built(head)
    features, labels = blobs()
    embedding = own.embed(_shaped(own, features)).detach().requires_grad_()
    loss = own.loss(embedding, labels)
    _demand(loss.dim() == 0 and bool(loss.isfinite()), f"the loss is {loss!r}")
    loss.backward()
    gradient = embedding.grad
    _demand(
        gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any()),
        "the loss has no finite gradient to the embedding",
    )


def loss_is_pure(head: type[Head]) -> None:
    """The loss leaves the state untouched, and twice gives the same number."""
    own = _built(head)
    features, labels = blobs()
    embedding = own.embed(_shaped(own, features)).detach()
    before = copy.deepcopy(own.state_dict())
    first, second = own.loss(embedding, labels), own.loss(embedding, labels)
    _demand(bool(first == second), f"the loss is {first} at first, then {second}")
    changed = [k for k, v in own.state_dict().items() if not torch.equal(v, before[k])]
    _demand(not changed, f"the loss changes {', '.join(changed)}; change state in after_step")


def order_is_of_no_account(head: type[Head]) -> None:
    """Permuting the batch changes neither the loss, nor the scores, nor the state after a step."""
    features, labels = blobs()
    turn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    outcomes = []
    for chosen in (torch.arange(len(labels)), turn):
        own = _built(head)
        embedding = own.embed(_shaped(own, features[chosen])).detach()
        loss = own.loss(embedding, labels[chosen])
        own.after_step(embedding, labels[chosen], Clock(0, 0, 5, 10))
        scores = own.eval()(_shaped(own, features, False))
        outcomes.append([loss, scores, *own.state_dict().values()])
    for one, other in zip(*outcomes, strict=True):
        close = torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5)
        _demand(close, "the order of the batch changes loss, scores or state")


def state_round_trips(head: type[Head]) -> None:
    """A state_dict, loaded into a head of another seed, reproduces the scores exactly."""
    own, _ = _trained(head)
    other = _built(head, seed=1, prepared=False)
    other.load_state_dict(own.state_dict())
    features = _shaped(own, blobs(2)[0], False)
    same = torch.equal(own.eval()(features), other.eval()(features))
    _demand(same, "scores differ after a round trip: keep all state in parameters and buffers")


def double_works(head: type[Head]) -> None:
    """`.double()` works, and gives the same scores within float error."""
    own = _built(head)
    twin = copy.deepcopy(own).double()
    features, labels = blobs()
    scores = []
    for each, shaped in ((own, _shaped(own, features)), (twin, _shaped(own, features).double())):
        embedding = each.embed(shaped)
        loss = each.loss(embedding, labels)
        _demand(loss.dtype == shaped.dtype, f"the loss is {loss.dtype} after .double()")
        each.after_step(embedding.detach(), labels, Clock(0, 0, 5, 10))
        scores.append(each.eval()(_shaped(own, features, False).to(shaped.dtype)).double())
    near = torch.allclose(*scores, rtol=1e-3, atol=1e-3)
    _demand(near, "scores in float64 are not those in float32")


def small_batches_do_no_harm(head: type[Head]) -> None:
    """A class with one example, a batch with one class, a batch of one: no NaN."""
    features, labels = blobs()
    for rows in (slice(0, 10), slice(60, 65), slice(0, 1), slice(39, 41)):
        own = _built(head, counts=(63, 1, 1))
        embedding = own.embed(_shaped(own, features[rows]))
        loss = own.loss(embedding, labels[rows])
        if loss.requires_grad:
            loss.backward()
        own.after_step(embedding.detach(), labels[rows], Clock(0, 0, 5, 10))
        state = [
            *own.state_dict().values(),
            *(p.grad for p in own.parameters() if p.grad is not None),
        ]
        finite = all(bool(v.isfinite().all()) for v in state if v.is_floating_point())
        _demand(bool(loss.isfinite()) and finite, f"not finite for labels {labels[rows].tolist()}")


def blobs_are_learned(head: type[Head]) -> None:
    """Three blobs at 40:20:5 are learned in 50 steps of the real training loop."""
    own, look = _trained(head)
    features, labels = blobs()
    with torch.no_grad():
        right = float((own(look(features)).argmax(dim=1) == labels).double().mean())
    _demand(right > 0.95, f"only {right:.0%} of three far blobs are right after {STEPS} steps")


def needs_are_declared(head: type[Head]) -> None:
    """What is not declared is not used: word vectors and the class vectors of another cell."""
    needs = head.needs()
    _demand(isinstance(needs, Needs), "needs() does not give a heads.base.Needs")
    bare = Problem(
        width=WIDTH, counts=torch.tensor(COUNTS), seed=0, points=keeper(CLASSES), names=()
    )
    declared = needs.words or needs.source is not None
    try:
        head(bare)
    except (AttributeError, TypeError) as error:
        raise Broken(f"it uses what it does not declare in needs(): {error}") from None
    except ValueError as error:
        _demand(declared, f"it uses what it does not declare in needs(): {error}")
    else:
        _demand(not declared, "it declares words or source, and does not miss them")


def hyperparameters_are_documented(head: type[Head]) -> None:
    """Every hyper-parameter is keyword-only, has a default, and is named in the docstring."""
    parameters = list(inspect.signature(head).parameters.values())
    words = f"{head.__doc__ or ''}\n{head.__init__.__doc__ or ''}"
    for parameter in parameters[1:]:
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        _demand(keyword, f"{parameter.name} is not keyword-only")
        _demand(parameter.default is not inspect.Parameter.empty, f"{parameter.name}: no default")
        named = re.search(rf"^\s*{parameter.name}\b", words, re.MULTILINE)
        _demand(named is not None, f"{parameter.name} is not in the docstring with its source")


def paper_is_cited(head: type[Head]) -> None:
    """The module's docstring cites its paper by arXiv number."""
    module = inspect.getmodule(head)
    text = (module.__doc__ if module else None) or ""
    _demand(re.search(r"arXiv:\d{4}\.\d{4,5}", text) is not None, "no 'arXiv:1234.56789' there")


CLAUSES: tuple[Callable[[type[Head]], None], ...] = (
    scores_are_finite,
    loss_has_a_gradient,
    loss_is_pure,
    order_is_of_no_account,
    state_round_trips,
    double_works,
    small_batches_do_no_harm,
    blobs_are_learned,
    needs_are_declared,
    hyperparameters_are_documented,
    paper_is_cited,
)


def failures(head: type[Head]) -> dict[str, str]:
    """Clauses that a head breaks: name -> how. Whatever else a clause raises breaks it too."""
    broken = {}
    for clause in CLAUSES:
        try:
            clause(head)
        except Broken as error:
            broken[clause.__name__] = str(error)
        except Exception as error:  # a stranger's head may raise anything
            broken[clause.__name__] = f"{type(error).__name__}: {error}"
    return broken


def _demand(kept: bool, otherwise: str) -> None:
    if not kept:
        raise Broken(otherwise)


def _built(
    head: type[Head],
    seed: int = 0,
    counts: tuple[int, ...] = COUNTS,
    prepared: bool = True,
) -> Head:
    own = head(problem(seed, counts))
    own.train()
    if prepared:  # as if each stood on another: most heads do nothing then
        with torch.no_grad():
            own.prepare(*blobs(), _Before())
    if prepared and head.needs().sweep:
        own.begin_epoch(Clock(0, 0, 5, 10), Sweep(*blobs()))
    return own


def _shaped(head: Head, features: Tensor, training: bool = True) -> Tensor:
    """Features as a head in training gets them: with views or experts where it asks for them."""
    needs = head.needs()
    if training and needs.views > 1:
        return features.expand(needs.views, *features.shape)
    if needs.experts > 1:
        return features[:, None].expand(-1, needs.experts, -1)
    return features


def _trained(head: type[Head]) -> tuple[Head, Trunk]:
    """A head and its trunk after 50 steps of the real loop, or prepared if nothing is to train."""
    own = _built(head)
    needs = head.needs()
    backbone = nn.Identity() if needs.frozen else _Plain(needs.experts)
    look = Trunk(backbone, [], frozen=needs.frozen, precision="float32")
    if not needs.trains:
        return own.eval(), look
    recipe = Recipe(
        epochs=STEPS // 5,
        batch=BATCH,
        lr=0.1 if _is_mean(own) else 0.01,
        weight_decay=0.0,
        schedule="constant",
        precision="float32",
    )

    def sweep() -> Sweep:
        features, labels = blobs()
        with torch.no_grad():
            return Sweep(look(features), labels)

    train(
        look,
        own,
        _Blobs(needs.views),
        recipe,
        seed=0,
        teacher=needs.teacher,
        sweep=sweep if needs.sweep else None,
    )
    return own, look


def _is_mean(head: Head) -> bool:
    """Whether the loss is a mean: a batch repeated costs the same. A sum wants a smaller rate."""
    features, labels = blobs()
    embedding = head.embed(_shaped(head, features)).detach()
    axis = 1 if head.needs().views > 1 else 0
    once = head.loss(embedding, labels)
    twice = head.loss(torch.cat([embedding, embedding], axis), labels.repeat(2))
    return bool(twice < 1.5 * once)


class _Plain(nn.Module):
    """A backbone that learns: one linear layer, so that fixed-point heads can learn the blobs.

    Several experts are the same layer.
    """

    width = WIDTH

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.experts = experts
        self.layer = nn.Linear(WIDTH, WIDTH)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            nn.init.orthogonal_(self.layer.weight, generator=generator)
            self.layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer(images)
        if self.experts > 1:
            features = features[:, None].expand(-1, self.experts, -1)
        return features


class _Before(Head):
    """A trained linear head, for heads that stand on one."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = WIDTH
        self.weight = nn.Parameter(torch.eye(CLASSES, WIDTH))

    def score(self, embedding: Tensor) -> Tensor:
        return embedding @ self.weight.T

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        return self.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.weight, torch.zeros(CLASSES)


class _Blobs:
    """Batches of the blobs, in a fresh order every epoch."""

    def __init__(self, views: int):
        self.views = views
        self.steps = 65 // BATCH

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        features, labels = blobs()
        order = torch.randperm(65, generator=torch.Generator().manual_seed(epoch))
        for chosen in order.split(BATCH)[start:]:
            images = features[chosen]
            if self.views > 1:
                images = images.expand(self.views, *images.shape)
            yield images, labels[chosen]
