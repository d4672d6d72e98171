"""run under torchrun: the first process works as ever, with the others at hand; they follow it."""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from rich.console import Console

from benchmark.commands import outlook
from benchmark.commands.agenda import vector_files
from benchmark.commands.desk import INTERRUPTED, Options, settings
from benchmark.engines.together import Left, follow
from benchmark.engines.torchrun import Rank
from benchmark.training.orders import Orders, assemble, dismiss


def run(
    options: Options, rank: Rank, console: Console, lead: Callable[[Options, Orders], int]
) -> int:
    """Do what `lead` does, in the first process; gives its exit code, in all.

    Raises ValueError: one sentence, in all processes.
    """
    device = _device(options, rank)
    orders = assemble(rank.rank, rank.size, device)
    if orders.team.first:
        return _lead(replace(options, device=device, jobs=1), orders, console, lead)
    readers = max(outlook.cores() // rank.beside - options.threads, 0)
    code = follow(settings(options, device, vector_files(options.words), readers), orders)
    _end(code)
    return code


def _lead(
    options: Options, orders: Orders, console: Console, lead: Callable[[Options, Orders], int]
) -> int:
    code = 1
    try:
        code = lead(options, orders)
    except Left as error:
        console.print(f"ended: {error}", markup=False, highlight=False)
        console.print(INTERRUPTED)
    except SystemExit as end:
        code = int(end.code or 0)
        raise
    except (ValueError, FileNotFoundError, PermissionError):
        code = 2
        raise
    finally:
        with suppress(RuntimeError):  # torchrun, which keeps the words, may be gone
            orders.give({"over": code})
        _end(code)
    return code


def _end(code: int) -> None:
    """Leave the others; torchrun ends those that are last by SIGTERM, and they end anyway."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if code == 0:
        dismiss()


def _device(options: Options, rank: Rank) -> str:
    """Of this process. Raises ValueError where options make no sense beside torchrun."""
    if options.engine != "local":
        raise ValueError(
            f"torchrun trains a cell on several GPUs, and --engine {options.engine} sends cells to "
            "other machines. Leave out one of them."
        )
    if options.jobs > 1:
        raise ValueError(
            f"--jobs {options.jobs} trains cells side by side, and torchrun one after another, "
            "each by all processes. Leave out one of them."
        )
    wanted = options.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ValueError(
            f"--device {options.device} is one device, and torchrun has started {rank.size} "
            "processes. Give cpu or cuda: each process takes one GPU."
        )
    if wanted == "cuda" and torch.cuda.device_count() < rank.beside:
        raise ValueError(
            f"torchrun has started {rank.beside} processes here, and torch sees "
            f"{torch.cuda.device_count()} GPUs. Lower --nproc-per-node, or use --device cpu."
        )
    return f"cuda:{rank.local}" if wanted == "cuda" else wanted
