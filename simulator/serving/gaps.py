"""Gaps between the tokens of a sequence (ITL), kept as runs of steps rather than one by one.

A segment `(first_s, growth_s, n_steps, weight)` stands for gaps of first_s, first_s + growth_s, ... seconds, each
seen by `weight` sequences. While every step decodes, a gap is a step. Where prompts run alone the decoding sequences
wait, and the gap that ends their wait depends on when each had its last token: `TokenGaps` keeps groups of them.
"""

import numpy as np

from model_graphs.runs.records import FloatArray

Segment = tuple[float, float, int, int]


class TokenGaps:
    """When the decoding sequences of one rank had their last token."""

    __slots__ = ("_joined", "_resumed_s", "_segments", "_waiting_s", "last_decode_s", "stalled")

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self.stalled = False  # whether a step of prompts alone came since the last decode step
        self.last_decode_s = 0.0
        self._joined: list[tuple[float, int]] = []  # (first token, sequences) since the last decode step
        self._waiting_s: dict[int, float] = {}  # last token of the sequences that were preempted
        self._resumed_s: dict[int, float] = {}  # next token of those that came back

    def stall(self, end_s: float, n_joined: int) -> None:
        """Note a step of prompts alone, after which `n_joined` sequences more are decoding."""
        self.stalled = True
        if n_joined:
            self._joined.append((end_s, n_joined))

    def end_stall(self, end_s: float, n_decoding: int) -> None:
        """Write the gaps that end with the first decode step after a stall."""
        segments = self._segments
        before = n_decoding
        for joined_s, count in self._joined:
            segments.append((end_s - joined_s, 0.0, 1, count))
            before -= count
        if before:
            segments.append((end_s - self.last_decode_s, 0.0, 1, before))
        self._joined.clear()
        self.stalled = False

    def leave(self, request: int, first_token_s: float) -> None:
        """Note that a decoding request was preempted."""
        joined_s = self._resumed_s.get(request, first_token_s)
        if self.stalled and joined_s > self.last_decode_s:
            at = next(i for i, (time_s, _) in enumerate(self._joined) if time_s == joined_s)
            self._joined[at] = (joined_s, self._joined[at][1] - 1)
        self._waiting_s[request] = max(joined_s, self.last_decode_s)

    def resume(self, request: int, end_s: float) -> None:
        """Write the gap that a preempted request saw until its prompt was computed again."""
        if request in self._waiting_s:
            self._segments.append((end_s - self._waiting_s.pop(request), 0.0, 1, 1))
            self._resumed_s[request] = end_s


def expand(segments: list[Segment]) -> tuple[FloatArray, FloatArray]:
    """Every gap in seconds and how many sequences saw it, one entry a step of a segment."""
    if not segments:
        return np.empty(0), np.empty(0)
    first_s, growth_s, n_steps, weight = (np.array(column) for column in zip(*segments, strict=True))
    starts = np.cumsum(n_steps) - n_steps
    step = np.arange(int(n_steps.sum())) - np.repeat(starts, n_steps)
    gaps_s = np.repeat(first_s, n_steps) + step * np.repeat(growth_s, n_steps)
    return gaps_s, np.repeat(weight, n_steps).astype(np.float64)
