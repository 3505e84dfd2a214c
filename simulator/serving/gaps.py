"""Gaps between the tokens of a sequence (ITL) that are longer than a step.

While every step decodes, a gap is a step and the log of runs tells it. Where prompts run alone the decoding
sequences wait, and the gap that ends their wait depends on when each had its last token: `TokenGaps` keeps
groups of them. A preempted request waits too, until its prompt has been computed again.
"""

from simulator.serving.run import Run


class TokenGaps:
    """When the decoding sequences of one rank had their last token.

    `rows` is a flat list of (first_s, growth_s, n_steps, sequences), as in the log of runs.
    """

    __slots__ = ("_joined", "_resumed_s", "_waiting_s", "last_decode_s", "rows", "stalled")

    def __init__(self) -> None:
        self.rows: list[float] = []
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

    def end_stall(self, run: Run, n_decoding: int) -> None:
        """Write the gaps of the run of decode steps that ends a stall."""
        end_s = run.end_of(1)
        before = n_decoding
        for joined_s, count in self._joined:
            self.rows += (end_s - joined_s, 0.0, 1, count)
            before -= count
        if before:
            self.rows += (end_s - self.last_decode_s, 0.0, 1, before)
        if run.n_steps > 1:
            self.rows += (run.first_s + run.growth_s, run.growth_s, run.n_steps - 1, n_decoding)
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
            self.rows += (end_s - self._waiting_s.pop(request), 0.0, 1, 1)
            self._resumed_s[request] = end_s
