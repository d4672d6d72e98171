"""The columns of the ledger's frame, and a run of MLflow as one row of them."""

import math
from typing import Any

from benchmark.planning.cell import PROTOCOL

TEXT = ("data", "profile", "backbone", "head", "recipe", "seed", "group_rule")
STATED = ("largest", "dim", "epochs")
SIZES = ("classes", "train_images", "parameters", "flops", "width")
WHOLE = (*STATED, *SIZES)
MEASURED = (
    *("accuracy", "many", "medium", "few", "top5", "ece", "nc1", "nc2", "nc3", "nc4"),
    *("train_accuracy", "validation", "oracle", "flip"),
    *("cosine_max", "cosine_min", "cosine_mean", "cosine_sd", "angle_mean", "uniformity"),
)
COST = (
    *("seconds", "images_per_second", "peak_memory_mb", "assignment_seconds"),
    *("beside_seconds", "predicted_seconds", "jobs"),
)

KEY, LABEL, SUITES = "benchmark.key", "benchmark.label", "benchmark.suites"
COMMITTED = "benchmark.committed"
REMARKED = {
    name: f"benchmark.{name}" for name in ("predicted_from", "execution", "features")
}  # texts of the cost block, as tags
STATE, FINISHED, STEP = "benchmark.state", "benchmark.finished", "benchmark.diverged_step"


def columns() -> list[str]:
    """Names of the columns of `Ledger.read`."""
    texts = ["key", "label", "suites", "state", "data", "ratio", "profile", "largest", "backbone"]
    texts += ["head", "dim", "seed", "recipe", "epochs", "classes", "train_images", "group_rule"]
    sizes = ["parameters", "flops", "width"]
    return [
        *texts,
        *MEASURED,
        *sizes,
        *COST,
        *REMARKED,
        "finished",
        "diverged_step",
        "run_id",
    ]


def row(run: Any) -> dict[str, Any] | None:
    """A committed run, an entity of MLflow, as a row; None for one of another protocol."""
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    if "protocol" not in params or int(params["protocol"]) != PROTOCOL:
        return None
    step = tags.get(STEP)
    return {
        "key": tags[KEY],
        "label": tags[LABEL] if LABEL in tags else params["label"],
        **{name: params[name] for name in TEXT},
        **{name: int(params[name]) for name in STATED},
        **{name: int(size(params, name)) for name in SIZES},
        **{name: metrics.get(name, math.nan) for name in (*MEASURED, *COST)},
        "ratio": float(params["ratio"]),
        "suites": tags.get(SUITES, ""),
        "state": tags[STATE],
        **{name: tags.get(tag, "") for name, tag in REMARKED.items()},
        "finished": tags[FINISHED],
        "diverged_step": float(step) if step else math.nan,
        "run_id": run.info.run_id,
    }


def size(params: Any, name: str) -> str:
    """A size that a run has as a parameter; runs of older versions have it under its bare name."""
    return str(params.get(f"size.{name}", params.get(name, "nan")))
