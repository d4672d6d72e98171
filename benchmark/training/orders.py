"""What the processes of a team say to each other beside training: text in a store that all reach.

    first   ──order──▶ others       a cell to train, or that all is over
    others  ──answer─▶ all          that the cell is trained, or what went wrong with it

Nobody waits in a collective call here, so that minutes of planning or delivering are no timeout and
a signal is heard at once.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from benchmark.training.team import SILENCE, Team

EVERY = 0.1  # seconds between two looks into the store; ours
MEETING = timedelta(minutes=2)  # to reach the store, which is there before the processes; ours
SOON = 30.0  # seconds in which processes that fail alike have all failed; ours


@dataclass(slots=True)
class Orders:
    """Orders of the first process of a team, one after another, and answers to each."""

    store: distributed.Store
    team: Team
    number: int = 0

    def give(self, order: Mapping[str, Any]) -> None:
        """Tell the others; of the first process."""
        self.number += 1
        self.store.set(f"order/{self.number}", json.dumps(order))

    def next(self, patient: Callable[[], bool]) -> dict[str, Any] | None:
        """Wait for the next order; None where patience ends before, or torchrun with its store."""
        self.number += 1
        key = f"order/{self.number}"
        with suppress(distributed.DistError):
            while not self.store.check([key]):
                if not patient():
                    return None
                time.sleep(EVERY)
            return dict(json.loads(self.store.get(key)))
        return None

    def answer(self, fault: str = "") -> None:
        """Say how the last order went; empty: well."""
        self.store.set(self._answer(self.team.rank), fault)

    def faults(self, patient: Callable[[], bool]) -> tuple[bool, str]:
        """After a fault of one's own: whether all can go on to the next order, else who failed.

        All go on where all have failed, or where the others had done their part already. Otherwise
        some wait in training for this process, which must end so that they hear of it. They fail
        then, too: who has failed by itself is known by having waited for the others in vain. Where
        patience ends before, as when torchrun has found a process dead, that is nobody.
        """
        others = [rank for rank in range(self.team.size) if rank != self.team.rank]
        until = time.monotonic() + SOON
        left = f"left/{self.number}"
        while not self.store.check([left]):
            there = [rank for rank in others if self.store.check([self._answer(rank)])]
            found = {bool(self.store.get(self._answer(rank))) for rank in there}
            if len(there) == len(others) and len(found) == 1:
                return True, ""
            if not patient():
                return False, ""
            if time.monotonic() > until:
                self.store.set(left, str(self.team.rank))
            else:
                time.sleep(EVERY)
        alone = int(self.store.get(left))
        return False, f"process {alone}: {self.store.get(self._answer(alone)).decode()}"

    def _answer(self, rank: int) -> str:
        return f"answer/{self.number}/{rank}"


def assemble(rank: int, size: int, device: str, where: str = "env://") -> Orders:
    """Join the other processes; returns when all are there.

    device  of this process: cpu or cuda:N
    where   an address of torch.distributed: env://, as torchrun has it, or file://PATH
    """
    own = torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    store = next(iter(distributed.rendezvous(where, rank, size, timeout=MEETING)))[0]
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo",
        store=distributed.PrefixStore("group", store),
        rank=rank,
        world_size=size,
        timeout=SILENCE,
    )
    return Orders(distributed.PrefixStore("orders", store), Team(rank, size, own))


def dismiss() -> None:
    """Leave the others, in order."""
    distributed.destroy_process_group()
