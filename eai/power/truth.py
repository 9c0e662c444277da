"""A power curve whose energy is known in closed form: what simulated sensors look at and measured energies are judged by."""

import bisect
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Truth:
    """Piecewise linear power: between `edge_s[i]` and `edge_s[i + 1]` it goes from `left_w[i]` to `right_w[i]`; jumps are allowed.

    Before the first edge and after the last one the power is `idle_w`.
    """

    edge_s: np.ndarray
    left_w: np.ndarray
    right_w: np.ndarray
    idle_w: float

    def __post_init__(self):
        steps_j = np.diff(self.edge_s) * (self.left_w + self.right_w) / 2
        object.__setattr__(self, "_sum_j", np.concatenate([[0.0], np.cumsum(steps_j)]))

    @property
    def start_s(self) -> float:
        return float(self.edge_s[0])

    @property
    def stop_s(self) -> float:
        return float(self.edge_s[-1])

    @property
    def energy_j(self) -> float:
        """Energy of the work [J], from its first edge to its last."""
        return float(self._sum_j[-1])

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray:
        """Energy [J] from the first edge until each instant, negative before it: exact, quadratic inside a piece."""
        t_s = np.asarray(t_s, dtype=float)
        piece = np.clip(np.searchsorted(self.edge_s, t_s, "right") - 1, 0, len(self.left_w) - 1)
        since_s = np.clip(t_s - self.edge_s[piece], 0.0, (self.edge_s[piece + 1] - self.edge_s[piece]))
        slope = (self.right_w[piece] - self.left_w[piece]) / (self.edge_s[piece + 1] - self.edge_s[piece])
        inside_j = self._sum_j[piece] + since_s * (self.left_w[piece] + slope * since_s / 2)
        outside_s = np.minimum(t_s - self.edge_s[0], 0.0) + np.maximum(t_s - self.edge_s[-1], 0.0)
        return inside_j + self.idle_w * outside_s


def pieces(start_s: float, parts: list[tuple[float, float, float]], idle_w: float) -> Truth:
    """A curve from (duration_s, from_w, to_w) parts one after the other."""
    durations, left, right = (np.array(c, dtype=float) for c in zip(*parts, strict=True))
    return Truth(start_s + np.concatenate([[0.0], np.cumsum(durations)]), left, right, idle_w)


def constant(start_s: float, duration_s: float, power_w: float, idle_w: float) -> Truth:
    """A step to one power and back."""
    return pieces(start_s, [(duration_s, power_w, power_w)], idle_w)


def ramp(start_s: float, duration_s: float, from_w: float, to_w: float, idle_w: float) -> Truth:
    """Power that rises or falls linearly, as a card that warms up."""
    return pieces(start_s, [(duration_s, from_w, to_w)], idle_w)


def throttle(start_s: float, duration_s: float, power_w: float, reduced_w: float, share: float, idle_w: float) -> Truth:
    """A load that is throttled to `reduced_w` for the last `share` of its time."""
    return pieces(start_s, [(duration_s * (1 - share), power_w, power_w), (duration_s * share, reduced_w, reduced_w)], idle_w)


def decode(start_s: float, duration_s: float, step_s: float, busy: float, high_w: float, low_w: float, idle_w: float) -> Truth:
    """Decode steps: a rectangular wave of period `step_s`, high for the share `busy` of it. The last step is cut at the end."""
    steps = int(np.ceil(duration_s / step_s - 1e-9))
    starts = start_s + step_s * np.arange(steps)
    edges = np.ravel(np.column_stack([starts, starts + busy * step_s]))
    edges = np.append(edges[edges < start_s + duration_s - 1e-12], start_s + duration_s)
    power_w = np.where(np.arange(len(edges) - 1) % 2 == 0, high_w, low_w).astype(float)
    return Truth(edges, power_w, power_w, idle_w)


class Timeline:
    """A power curve that grows while work runs: constant pieces one after the other, `idle_w` before, between and after them.

    A piece is added before its time passes, so that a sensor asked meanwhile sees it; energies are exact, as those of `Truth`.
    """

    def __init__(self, start_s: float, idle_w: float):
        self.idle_w = idle_w
        self._edge_s, self._power_w, self._sum_j = [start_s], [], [0.0]

    def add(self, start_s: float, duration_s: float, power_w: float) -> None:
        """Draw `power_w` from `start_s` on. Raises ValueError for a piece that begins before the last one has ended."""
        if start_s < self._edge_s[-1] or duration_s <= 0:
            raise ValueError(f"a piece of {duration_s} s at {start_s} s does not follow {self._edge_s[-1]} s")
        if start_s > self._edge_s[-1]:
            self._append(start_s, self.idle_w)
        self._append(start_s + duration_s, power_w)

    def _append(self, stop_s: float, power_w: float) -> None:
        self._sum_j.append(self._sum_j[-1] + (stop_s - self._edge_s[-1]) * power_w)
        self._edge_s.append(stop_s)
        self._power_w.append(power_w)

    @property
    def start_s(self) -> float:
        return self._edge_s[0]

    @property
    def stop_s(self) -> float:
        return self._edge_s[-1]

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray:
        """Energy [J] from the start until each instant, negative before it."""
        t_s = np.asarray(t_s, dtype=float)
        return np.array([self._until_j(t) for t in t_s.ravel().tolist()]).reshape(t_s.shape)

    def _until_j(self, t_s: float) -> float:
        piece = bisect.bisect_right(self._edge_s, t_s) - 1
        if piece < 0:
            return (t_s - self._edge_s[0]) * self.idle_w
        power_w = self._power_w[piece] if piece < len(self._power_w) else self.idle_w
        return self._sum_j[piece] + (t_s - self._edge_s[piece]) * power_w
