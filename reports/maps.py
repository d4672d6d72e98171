"""The sphere on paper, and ways on it: pure functions of unit vectors.

The whole sphere is one map that keeps areas (Hammer 1892; Snyder and Voxland, "An Album of Map
Projections", U.S. Geological Survey Professional Paper 1453, 1989), λ longitude and φ latitude:

    x = 2√2 cos φ sin(λ/2) / √(1 + cos φ cos(λ/2)),   y = √2 sin φ / √(1 + cos φ cos(λ/2))

so that as many points on as much paper mean as many points on as much sphere.
"""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors divided by their lengths, (n, dim); zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def hammer(points: np.ndarray) -> np.ndarray:
    """Hammer's map of unit vectors, (n, 3) -> (n, 2), an ellipse 4√2 wide and 2√2 high."""
    longitude = np.arctan2(points[:, 1], points[:, 0])
    height = np.clip(points[:, 2], -1, 1)
    girth = np.sqrt(1 - height**2)  # cos φ
    scale = np.sqrt(2 / (1 + girth * np.cos(longitude / 2)))
    return np.column_stack([2 * girth * np.sin(longitude / 2), height]) * scale[:, None]


def arc(start: np.ndarray, end: np.ndarray, steps: int = 60) -> np.ndarray:
    """The shortest way on the sphere between two unit vectors, (steps, 3).

    Between antipodes every way is as short; one is taken.
    """
    angle = np.arctan2(np.linalg.norm(np.cross(start, end)), start @ end)
    aside = end - (start @ end) * start
    if np.linalg.norm(aside) < 1e-9:
        aside = np.cross(start, np.eye(3)[np.abs(start).argmin()])
    aside = aside / np.linalg.norm(aside)
    turn = np.linspace(0, angle, steps)[:, None]
    return np.cos(turn) * start + np.sin(turn) * aside


def stations(assignment: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """The points that each class had, one after the other.

    assignment: (snapshots, classes), which point each class has; the last one is of the vectors,
    (classes, dim), in class order. A point that nobody has at the end has no known place and is
    left out.
    """
    places = dict(zip(assignment[-1].tolist(), vectors, strict=True))
    ways = []
    for own in assignment.T.tolist():
        held = [p for p, before in zip(own, [None, *own], strict=False) if p != before]
        ways.append(np.array([places[point] for point in held if point in places]))
    return ways


def graticule(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """A line of the map's net, from angles in radians, (n,) each -> (n, 2)."""
    girth = np.cos(latitude)
    points = [girth * np.cos(longitude), girth * np.sin(longitude), np.sin(latitude)]
    return hammer(np.column_stack(points))


def torn(line: np.ndarray) -> np.ndarray:
    """A line on the map, broken where it leaves it at one side and comes back at the other."""
    jumps = np.flatnonzero(np.abs(np.diff(line[:, 0])) > np.sqrt(2)) + 1
    return np.insert(line, jumps, np.nan, axis=0)
