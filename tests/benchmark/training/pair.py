"""One of two processes that train cells together; a program, started by test_team.py.

python pair.py RANK SIZE FOLDER: FOLDER/cells.json has the cells; the records go to FOLDER/runs,
what the parts of each process end with to ends-RANK, and what else it found to said-RANK.json.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.planning.cell import Cell
from benchmark.training import runner
from benchmark.training.norms import widen
from benchmark.training.orders import assemble, dismiss
from benchmark.training.registry import registry
from benchmark.training.runner import Ear, Place
from benchmark.training.team import Apart, Team


def main(rank: int, size: int, folder: Path) -> None:
    """Train the cells one after another, and try what a team can."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    team = assemble(rank, size, "cpu", f"file://{folder / 'meeting'}").team
    ends: dict[str, Tensor] = {}
    looked = count_looks(team)
    build = runner._Job.__init__

    def seen(job, cell, *given):
        build(job, cell, *given)
        for part in (job.head, job.look):
            for name, value in part.state_dict(keep_vars=True).items():
                ends[f"{cell.key}.{type(part).__name__}.{name}"] = value

    runner._Job.__init__ = seen
    runner._commit = lambda: "unknown"
    place = Place(folder / "runs", folder / "data", registry(), team=team)
    for values in json.loads((folder / "cells.json").read_text()):
        cell = Cell.from_json(values)
        if team.first:
            runner.run(cell, place)
        else:
            runner.follow(cell, place, Ear())
        team.most(0)  # a record must be whole before another cell stands on it
    said = {"looks": len(looked), **faults(team), **words(team)}
    ends |= norms(team)
    save_file({n: v.detach().contiguous() for n, v in ends.items()}, folder / f"ends-{rank}")
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
    dismiss()


def count_looks(team: Team) -> list[int]:
    """How often the processes made sure that they agree."""
    looked: list[int] = []
    same = team.same
    team.same = lambda parts: (looked.append(len(parts)), same(parts))
    return looked


def faults(team: Team) -> dict[str, str]:
    """What is said where one process is not as the other, or fails alone."""
    found = {}
    part = nn.Linear(2, 2)
    nn.init.constant_(part.weight, 1.0 + 1e-7 * team.rank)
    try:
        team.same({"head.": part})
    except Apart as error:
        found["apart"] = str(error)
    try:
        with team.alike():
            if team.rank:
                raise OSError("no such image")
    except (Apart, OSError) as error:
        found["alone"] = f"{type(error).__name__}: {error}"
    return found


def words(team: Team) -> dict[str, object]:
    """What the processes tell each other."""
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    parameters[0].grad = torch.full((2,), 1.0 + team.rank)
    team.level(parameters)
    with team.share(torch.zeros(4, 1, 1, 1), 4) as own:
        shared = [len(own), team.address()]
    with team.share(torch.zeros(1, 1, 1, 1), 1) as own:
        small = [len(own), team.address()]
    return {
        "gradient": parameters[0].grad.tolist(),
        "most": team.most(3 * team.rank),
        "given": team.given(b"word" if team.first else None).decode(),
        "shared": shared,
        "small": small,
        "outside": team.address(),
    }


def norms(team: Team) -> dict[str, Tensor]:
    """A batch of seven through convolution and batch norm in float64, with gradients."""
    images, weight = normed()
    model = network()
    widen(model, team)
    with team.share(images, len(images)) as own:
        whole = team.whole(model(own).mean((2, 3)), 1)
    (whole * weight).sum().backward()
    found = {f"norm.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        total = parameter.grad.clone()
        torch.distributed.all_reduce(total)
        found[f"norm.gradient.{name}"] = total / team.size  # as DistributedDataParallel does
    return {**found, "norm.features": whole}


def normed() -> tuple[Tensor, Tensor]:
    """Images of a large mean beside their spread, and what the features are weighed with."""
    generator = torch.Generator().manual_seed(0)
    images = 100 + torch.randn(7, 2, 5, 4, generator=generator, dtype=torch.float64)
    return images, torch.randn(7, 4, generator=generator, dtype=torch.float64)


def network() -> nn.Module:
    """Two batch norms, one right behind the images, in training."""
    torch.manual_seed(0)
    parts = nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    return nn.Sequential(*parts).double().train()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
