"""The learning rate at each step: a pure function of the step, so there is no state to keep."""

import math

from benchmark.planning.recipes import Recipe


def factor(recipe: Recipe, step: int, steps: int) -> float:
    """What the recipe's rate is multiplied with at a step (0-based) of a run of so many steps.

    Warm-up climbs in equal stairs: with 5 of 200 epochs and 5 stairs it is e/5 in epoch e = 1 … 5,
    as in the released code of ETF and DL2PA. Milestones count from the beginning of the run.
    A run of no steps stands at its beginning.
    """
    progress = step / max(steps, 1)
    tiny = 1e-9  # a milestone that falls on a step counts from that step on
    if recipe.warmup and progress < recipe.warmup - tiny:
        stair = math.floor(progress / recipe.warmup * recipe.warmup_stairs + tiny)
        return (stair + 1) / recipe.warmup_stairs
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    passed = sum(progress >= milestone - tiny for milestone in recipe.milestones)
    return recipe.gamma**passed
