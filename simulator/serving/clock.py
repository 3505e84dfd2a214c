"""The step table as the engine's clock: plain floats on demand, straight lines in context for decode runs.

The serving loop asks for a step's latency a million times, mostly at the same few batch sizes. Token tables
become dictionaries filled on first use, and a row of an attention grid becomes a piecewise-linear function of
length with its next knot, so that a run of decode steps is priced in one go. Nothing here rounds: values are
the table's own.
"""

from bisect import bisect_left
from math import inf

from simulator.step.table import AttentionGrid, FloatArray, StepTable


class Entries(dict[int, float]):
    """A token table as floats, one entry at a time; beyond its end it goes on along its last two entries."""

    def __init__(self, table_s: FloatArray) -> None:
        super().__init__()
        self._table_s = table_s

    def __missing__(self, n: int) -> float:
        last = len(self._table_s) - 1
        value = float(self._table_s[min(n, last)])
        if n > last:
            value += (n - last) * (value - float(self._table_s[last - 1]))
        self[n] = value
        return value


class SoloEntries(dict[int, float]):
    """Token tables and the host's base, summed: on a single rank they are read at the same count."""

    def __init__(self, local_s: Entries, expert_s: Entries, host_base_s: float) -> None:
        super().__init__()
        self._parts = local_s, expert_s, host_base_s

    def __missing__(self, n: int) -> float:
        local_s, expert_s, host_base_s = self._parts
        value = self[n] = local_s[n] + expert_s[n] + host_base_s
        return value


class AttentionRow:
    """Attention seconds at a fixed number of sequences: a piecewise-linear function of mean length."""

    __slots__ = ("_ends", "_inner", "_offsets", "_slopes")

    def __init__(self, grid: AttentionGrid, sequences: int, base_s: float = 0.0) -> None:
        axis = grid.sequences
        i = min(max(int(axis.searchsorted(sequences)) - 1, 0), len(axis) - 2)
        u = max((sequences - axis[i]) / (axis[i + 1] - axis[i]), 0.0)
        latency_s = base_s + (1 - u) * grid.latency_s[i] + u * grid.latency_s[i + 1]
        slopes = (latency_s[1:] - latency_s[:-1]) / (grid.length[1:] - grid.length[:-1])
        knots = grid.length.tolist()
        self._inner: list[float] = knots[:-1]
        self._ends: list[float] = [*knots[:-1], inf]
        self._slopes: list[float] = [0.0, *slopes.tolist()]
        self._offsets: list[float] = [
            float(latency_s[0]),
            *(latency_s[:-1] - slopes * grid.length[:-1]).tolist(),
        ]

    def at(self, length: float) -> float:
        """Seconds at a mean length."""
        j = bisect_left(self._inner, length)
        return self._offsets[j] + self._slopes[j] * length

    def line(self, length: float) -> tuple[float, float, float]:
        """Seconds at a mean length, what each token of length adds from there on, and up to which length."""
        j = bisect_left(self._inner, length)
        slope = self._slopes[j]
        return self._offsets[j] + slope * length, slope, self._ends[j]


class AttentionRows(dict[int, AttentionRow]):
    """The rows of an attention grid by number of sequences, made on first use."""

    def __init__(self, grid: AttentionGrid) -> None:
        super().__init__()
        self._grid = grid

    def __missing__(self, sequences: int) -> AttentionRow:
        row = self[sequences] = AttentionRow(self._grid, sequences)
        return row


class SoloDecodeRows(dict[int, AttentionRow]):
    """Decode steps of one rank by number of sequences: attention on top of what no length changes."""

    def __init__(self, grid: AttentionGrid, solo_s: SoloEntries, head_s: Entries) -> None:
        super().__init__()
        self._parts = grid, solo_s, head_s

    def __missing__(self, sequences: int) -> AttentionRow:
        grid, solo_s, head_s = self._parts
        row = self[sequences] = AttentionRow(grid, sequences, solo_s[sequences] + head_s[sequences])
        return row


class StepClock:
    """A step table in the form the serving loop reads."""

    def __init__(self, table: StepTable) -> None:
        self.local_s = Entries(table.local_s)
        self.expert_s = Entries(table.expert_s)
        self.head_s = Entries(table.head_s)
        self.decode = AttentionRows(table.decode)
        self.prefill = AttentionRows(table.prefill)
        self.prefix_s = float(table.prefix_s)
        self.host_base_s = float(table.host_base_s)
        self.host_per_sequence_s = float(table.host_per_sequence_s)
        self.host_prefill_s = float(table.host_prefill_s)
        self.solo_s = SoloEntries(self.local_s, self.expert_s, self.host_base_s)
        self.solo_decode = SoloDecodeRows(table.decode, self.solo_s, self.head_s)
        self.n_ranks = table.dp

    def tokens_s(self, rank_tokens: int, all_tokens: int, sampled: int, running: int) -> float:
        """Seconds of a step but for attention and prefill's host work."""
        return (
            self.local_s[rank_tokens]
            + self.expert_s[all_tokens]
            + self.head_s[sampled]
            + self.host_base_s
            + self.host_per_sequence_s * running
        )
