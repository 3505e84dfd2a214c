"""A run of steps, and the log of all runs from which counters and gaps between tokens are made afterwards.

The log is one flat list of numbers, a row a run: this is the only thing the serving loop writes per event.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from model_graphs.runs.records import FloatArray

#: columns of a log row; `weight` counts the decoding sequences whose last token came with the step before
COLUMNS = ("first_s", "growth_s", "n_steps", "weight", "decoding", "kv_tokens")


@dataclass(slots=True)
class Run:
    """A run of steps: the first lasts `first_s`, each further one `growth_s` more than the one before it."""

    start_s: float = 0.0
    first_s: float = 0.0
    growth_s: float = 0.0
    n_steps: int = 1
    end_s: float = 0.0

    def end_of(self, step: int) -> float:
        """When the first `step` steps are over."""
        return self.start_s + (step * self.first_s + self.growth_s * (step * (step - 1) / 2))

    def stop_after(self, step: int) -> None:
        """End the run with a step, one at least."""
        self.n_steps = max(step, 1)
        self.end_s = self.end_of(self.n_steps)

    def stop_for(self, time_s: float, lag_steps: int) -> None:
        """End the run `lag_steps` after the first step that ends at `time_s` or later, if it is longer."""
        step = steps_until(time_s, self.start_s, self.first_s, self.growth_s, self.n_steps) + lag_steps
        if step < self.n_steps:
            self.n_steps = step = step or 1
            self.end_s = self.start_s + (step * self.first_s + self.growth_s * (step * (step - 1) / 2))


def steps_until(time_s: float, start_s: float, first_s: float, growth_s: float, most: int) -> int:
    """The first step of a run, 0 being its start, that ends at `time_s` or later; `most` if none does."""
    gap_s = time_s - start_s
    if gap_s <= 0.0:
        return 0
    middle_s = first_s - growth_s / 2
    root = middle_s * middle_s + 2 * growth_s * gap_s
    step = int(2 * gap_s / (middle_s + sqrt(root))) if root > 0.0 and middle_s > 0.0 else 1
    while step < most and start_s + (step * first_s + growth_s * (step * (step - 1) / 2)) < time_s:
        step += 1
    return step


@dataclass(frozen=True)
class RunLog:
    """The columns of a log, one entry a run."""

    first_s: FloatArray
    growth_s: FloatArray
    n_steps: FloatArray
    weight: FloatArray
    decoding: FloatArray
    kv_tokens: FloatArray

    @classmethod
    def of(cls, logs: list[list[float]]) -> "RunLog":
        """The logs that engines wrote, one after the other."""
        flat = np.concatenate([np.array(log, dtype=np.float64) for log in logs])
        return cls(*flat.reshape(-1, len(COLUMNS)).T)

    def counters(self) -> dict[str, float]:
        """Steps, decode steps, the sequences of these summed, busy seconds, and the peak of the cache."""
        busy_s = self.n_steps * self.first_s + self.growth_s * self.n_steps * (self.n_steps - 1) / 2
        return {
            "steps": float(self.n_steps.sum()),
            "decode_steps": float(self.n_steps[self.decoding > 0].sum()),
            "sequence_steps": float((self.n_steps * self.decoding).sum()),
            "busy_s": float(busy_s.sum()),
            "kv_peak_tokens": float(self.kv_tokens.max(initial=0)),
        }

    def gaps(self) -> tuple[FloatArray, FloatArray]:
        """Every gap between tokens that is one step long, in seconds, and how many sequences saw it."""
        seen = self.weight > 0
        return expand(
            self.first_s[seen], self.growth_s[seen], self.n_steps[seen].astype(np.int64), self.weight[seen]
        )


def expand(
    first_s: FloatArray, growth_s: FloatArray, n_steps: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The steps of runs one by one: seconds and weights."""
    n = n_steps.astype(np.int64)
    step = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
    return np.repeat(first_s, n) + step * np.repeat(growth_s, n), np.repeat(weight, n)
