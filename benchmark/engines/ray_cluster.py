"""The Ray engine: each cell is a task on the machines of a Ray cluster.

The task only looks after a process of the usual kind (see errand.py). What both say goes through an
actor on the machine where the run was started. Ray tries nothing again by itself: a cell whose
machine went is given out anew by the engine, which knows from the record who has it.
"""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.engines.errand import Errand, Message, versions
from benchmark.engines.patience import Patience
from benchmark.engines.ray_connection import connected, handlers_kept, line, started
from benchmark.engines.worker import Settings

ROOT = Path(__file__).resolve().parents[2]
CHECK = 180.0  # seconds for all machines to start a first process each; ours, on slow disks
PLACES = 10_000  # Ray counts GPUs in shares of this
LOOK = 5.0  # seconds between two looks at which machines there are


class Ray:
    """A connection to a cluster, and the errands that it has; see `away.Carrier`."""

    def __init__(self, address: str | None, device: str, threads: int, jobs: int):
        """Connect to a cluster, or start one on this machine that ends with this process.

        address  host:port, 'auto', or None: RAY_ADDRESS, as Ray itself does, else one of its own
        device   auto, cpu or cuda; which GPU is Ray's business
        threads  CPUs of each cell
        jobs     cells side by side; 0: one for each GPU, or for each so many CPUs. More than there
                 are GPUs share them in equal parts.

        Raises ValueError: one sentence, within a minute or two.
        """
        if device.partition(":")[0] not in ("auto", "cpu", "cuda") or ":" in device:
            raise ValueError(
                f"device {device!r} goes with one machine; on a cluster Ray chooses which GPU a "
                "cell gets. Give --device auto, cpu or cuda."
            )
        self._folder: Path | None = None
        self._ray: Any = None
        address = address or os.environ.get("RAY_ADDRESS") or None
        try:
            if address is None:
                self._folder = Path(tempfile.mkdtemp(prefix="ray"))
                self._ray = started(self._folder)
            else:
                self._ray = connected(address)
            self._threads, self._looked, self._nodes = threads, 0.0, []
            self._shape(device, jobs)
            self._refs: dict[str, Any] = {}
            self._ready: set[Any] = set()
            self._failed: dict[str, list[Message]] = {}
            self._post = self._here(self._ray.remote(_post())).remote()
            self._task = self._ray.remote(_task())
        except BaseException:
            self.close()
            raise

    # what `away.Carrier` promises

    @property
    def room(self) -> int:
        """Cells that the machines of this moment hold."""
        return max(1, sum(self._fits(node) for node in self._alive()))

    def send(self, ticket: str, label: str, text: str) -> None:
        """A task, which Ray starts where CPUs and GPUs are free."""
        options = {"num_cpus": self._threads, "num_gpus": self._share, "max_retries": 0}
        task = self._task.options(name=label, **options)
        self._refs[ticket] = task.remote(str(ROOT), text, self._post, ticket)

    def take(self, seconds: float) -> Mapping[str, list[Message]]:
        """What tasks have reported to the actor."""
        left = [ref for ref in self._refs.values() if ref not in self._ready]
        if left:
            self._ready.update(self._ray.wait(left, timeout=seconds)[0])
        else:
            time.sleep(seconds)
        found: dict[str, list[Message]] = self._ray.get(self._post.take.remote())
        for ticket, messages in self._failed.items():
            found.setdefault(ticket, []).extend(messages)
        self._failed.clear()
        return found

    def over(self, ticket: str) -> str | None:
        """Why a task is over; the reports of one that ended well have reached the actor before."""
        errors = self._ray.exceptions
        ref = self._refs.get(ticket)
        if ref is None:
            return ""
        if ref not in self._ready:
            return None
        self._ready.remove(ref)
        del self._refs[ticket]
        try:
            self._ray.get(ref)
        except errors.OutOfMemoryError as error:
            told = {"reason": f"Ray ended it for memory: {line(error)}", "traceback": str(error)}
            self._failed[ticket] = [("memory", told)]
        except errors.TaskCancelledError:
            return "it was taken back"
        except errors.RayTaskError as error:
            told = {"reason": f"on its machine: {line(error.cause)}", "traceback": str(error)}
            self._failed[ticket] = [("unfit", told)]
        except errors.RayError as error:
            return f"Ray lost its machine or process ({type(error).__name__})"
        return ""

    def order(self, ticket: str, word: str) -> None:
        """By way of the actor: whoever carries the errand out asks there."""
        self._post.order.remote(ticket, word)

    def cancel(self, ticket: str) -> None:
        """End a task, with its process."""
        ref = self._refs.get(ticket)
        if ref is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ref, force=True)

    def close(self) -> None:
        """Leave; a cluster of one's own ends, and its folder goes."""
        if self._ray is not None:
            with suppress(Exception), handlers_kept():
                self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def check(self, settings: Settings, token: str) -> None:
        """Try on each machine that may get cells whether it can; ValueError where one cannot."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        errand = Errand({}, (), settings, Patience(), token, versions())
        probe = self._ray.remote(_probe())
        refs = {}
        for node in self._alive():
            if self._fits(node):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                here = probe.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
                ref = here.remote(str(ROOT), errand.packed())
                refs[ref] = node["NodeManagerHostname"]
        ready, late = self._ray.wait(list(refs), num_returns=len(refs), timeout=CHECK)
        for ref in ready:
            try:
                reason = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                reason = (
                    f"machine {refs[ref]} cannot run this program: {line(error.cause)}. It needs "
                    f"{ROOT} under the same path, and the same packages."
                )
            except self._ray.exceptions.RayError as error:
                reason = f"machine {refs[ref]} cannot start a process: {line(error)}."
            if reason:
                raise ValueError(reason)
        if late:
            raise ValueError(
                f"machine {refs[late[0]]} of the cluster started no process within {CHECK:.0f} s. "
                "Look at it, or take it out of the cluster."
            )

    # how it is done

    def _shape(self, device: str, jobs: int) -> None:
        """What each cell gets. Raises ValueError: no machine has that."""
        totals = [node["Resources"] for node in self._alive()]
        gpus = sum(int(found.get("GPU", 0)) for found in totals)
        self.device = device if device != "auto" else ("cuda" if gpus else "cpu")
        self._share = 0.0
        if self.device == "cuda":
            if not gpus:
                raise ValueError("no machine of the cluster has a GPU. Use --device cpu.")
            each = max(1, math.ceil(jobs / gpus))
            self._share = math.floor(PLACES / each) / PLACES
        fitting = [node for node in self._alive() if self._fits(node)]
        if not fitting:
            most = max((int(found.get("CPU", 0)) for found in totals), default=0)
            raise ValueError(
                f"no machine of the cluster holds a cell of {self._threads} threads: the largest "
                f"has {most} CPUs. Lower --threads, or add a machine."
            )
        spare = [
            int(node["Resources"]["CPU"]) // self._fits(node) - self._threads for node in fitting
        ]
        self.readers = max(0, min(spare))

    def _alive(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._looked > LOOK:
            self._nodes = [node for node in self._ray.nodes() if node["Alive"]]
            self._looked = time.monotonic()
        return self._nodes

    def _fits(self, node: Mapping[str, Any]) -> int:
        """Cells that a machine holds."""
        has = node["Resources"]
        cells = int(has.get("CPU", 0)) // self._threads
        if self._share:
            cells = min(cells, math.floor(has.get("GPU", 0) / self._share + 1e-9))
        return cells

    def _here(self, actor: Any) -> Any:
        """On this machine: it ends with it, as the run does."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        return actor.options(num_cpus=0, scheduling_strategy=here)


# What runs on other machines is handed over by value: there, Ray does not know this package before
# its folder is on the path.


def _task() -> Callable[..., None]:
    def train(root: str, text: str, post: Any, ticket: str) -> None:
        import os
        import sys
        from concurrent.futures import ThreadPoolExecutor

        import ray

        sys.path.insert(0, root)
        from benchmark.engines.errand import carry_out

        # A task that waits for Ray in its main thread gives its CPUs back meanwhile, and Ray
        # starts another beside it; in any other thread it keeps them. But it is by giving back that
        # Ray would find out that its node's daemon, the parent of this process, is dead.
        daemon = os.getppid()
        with ThreadPoolExecutor(1) as thread:

            def exchange(said: list[Any]) -> list[str]:
                if os.getppid() != daemon:
                    os._exit(1)  # the cell's process finishes its step, saves and goes
                answer = post.exchange.remote(ticket, said)
                return list(thread.submit(ray.get, answer, timeout=600).result())

            carry_out(text, exchange)

    return train


def _probe() -> Callable[[str, str], str]:
    def probe(root: str, text: str) -> str:
        import sys

        sys.path.insert(0, root)
        from benchmark.engines.errand import Errand

        return Errand.unpacked(text).unfit

    return probe


def _post() -> type:
    class Post:
        """Messages by ticket, in both directions."""

        def __init__(self) -> None:
            self.said: dict[str, list[Any]] = {}
            self.orders: dict[str, list[str]] = {}

        def exchange(self, ticket: str, said: list[Any]) -> list[str]:
            if said:
                self.said.setdefault(ticket, []).extend(said)
            return self.orders.pop(ticket, [])

        def order(self, ticket: str, word: str) -> None:
            self.orders.setdefault(ticket, []).append(word)

        def take(self) -> dict[str, list[Any]]:
            said, self.said = self.said, {}
            return said

    return Post
