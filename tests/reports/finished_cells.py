"""One row of the ledger, as a finished cell leaves it. Not in conftest: others have one too."""

import hashlib

import numpy as np

ADVERSARY = "my_head&50%#{}"
LEVELS = {"psc": 0.43, "etf": 0.46, "dl2pa": 0.50, "psc > ncm": 0.44, ADVERSARY: 0.40}


def one(head: str, dim: int, ratio: float, seed: int, **other: object) -> dict[str, object]:
    """One finished cell; accuracy falls with the ratio and scatters with the seed, fractions."""
    key = hashlib.sha256(repr((head, dim, ratio, seed, other)).encode()).hexdigest()[:16]
    level = LEVELS.get(head, 0.42) + 0.01 * np.log2(dim) + 0.2 / (1 + np.log10(ratio))
    accuracy = level + 0.003 * ((seed * 7 + len(head)) % 5 - 2)
    row: dict[str, object] = {
        **{"key": key, "suites": "quick, long_tail", "state": "done", "data": "cifar100"},
        **{"ratio": float(ratio), "profile": "exponential", "largest": 500},
        **{"backbone": "resnet32 channels=32", "head": head, "dim": dim, "seed": str(seed)},
        **{"recipe": "long_tail_200", "epochs": 200, "classes": 100, "train_images": 10847},
        **{"group_rule": "many > 100, few < 20", "accuracy": accuracy, "many": accuracy + 0.2},
        **{"medium": accuracy, "few": accuracy - 0.2, "top5": min(accuracy + 0.25, 1.0)},
        **{"ece": 0.1, "nc1": 1.5, "nc2": 0.2, "nc3": 0.3, "nc4": 0.05, "oracle": accuracy + 0.01},
        **{"flip": accuracy + 0.005, "parameters": 464154.0, "flops": 69.5e6, "width": 128},
        **{"seconds": 600.0 + seed, "images_per_second": 3600.0, "peak_memory_mb": 812.0},
        **{"finished": "2026-01-02T03:04:05", "diverged_step": np.nan},
    }
    row["label"] = f"cifar100 1:{ratio:g} · resnet32 · {head} · seed {seed}"
    return row | other
