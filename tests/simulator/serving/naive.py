"""An independent serving loop for the tests: one rank, step by step, an object a sequence, no shortcuts."""

from collections import deque
from dataclasses import dataclass, field

from simulator.step.table import FloatArray, StepTable


@dataclass
class Sequence:
    index: int
    sent_s: float
    prompt: int
    output: int
    done: int = 0
    tokens_s: list[float] = field(default_factory=list)

    @property
    def decoding(self) -> bool:
        return self.done == self.prompt and len(self.tokens_s) < self.output


def entry(table_s: FloatArray, n: int) -> float:
    last = len(table_s) - 1
    if n <= last:
        return float(table_s[n])
    return float(table_s[last] + (n - last) * (table_s[last] - table_s[last - 1]))


def step_s(
    table: StepTable, decoding: list[Sequence], chunks: list[tuple[Sequence, int]], running: int
) -> float:
    """The formula of `StepTable`, read from its own grids."""
    tokens = len(decoding) + sum(new for _, new in chunks)
    sampled = len(decoding) + sum(s.done + new == s.prompt for s, new in chunks)
    total = entry(table.local_s, tokens) + entry(table.expert_s, tokens) + entry(table.head_s, sampled)
    if decoding:
        context = sum(s.prompt + len(s.tokens_s) for s in decoding)
        total += table.decode(len(decoding), context / len(decoding))
    if chunks:
        total += table.prefill(len(chunks), sum(new for _, new in chunks) / len(chunks))
        total += table.host_prefill_s
        total += table.prefix_s * sum(new * s.done for s, new in chunks)
    return total + table.host_base_s + table.host_per_sequence_s * running


def serve(
    table: StepTable,
    rule: str,
    step_tokens: int,
    max_running: int,
    capacity: int,
    arrivals: list[tuple[float, int, int]],
    concurrency: int | None = None,
) -> list[Sequence]:
    """Every sequence with the time of each token; the whole output is reserved at admission."""
    everyone = [Sequence(i, *arrival) for i, arrival in enumerate(arrivals)]
    unsent = deque(everyone)
    waiting: deque[Sequence] = deque()
    running: list[Sequence] = []
    now_s = 0.0
    sent = [unsent.popleft() for _ in range(min(concurrency or 0, len(everyone)))]
    waiting.extend(sent)
    while waiting or running or unsent:
        while concurrency is None and unsent and unsent[0].sent_s <= now_s:
            waiting.append(unsent.popleft())
        if not waiting and not running:
            now_s = unsent[0].sent_s
            continue
        decoding = [s for s in running if s.decoding]
        budget = step_tokens - (0 if rule == "sglang" else len(decoding))
        chunks: list[tuple[Sequence, int]] = []
        for s in running:
            new = min(s.prompt - s.done, budget)
            if new > 0:
                chunks.append((s, new))
                budget -= new
        while waiting and budget > 0 and len(running) < max_running:
            s = waiting[0]
            reserved = sum(r.prompt + r.output for r in running) + s.prompt + s.output
            if reserved > capacity or (rule == "trtllm" and s.prompt > budget):
                break
            running.append(waiting.popleft())
            chunks.append((s, min(s.prompt, budget)))
            budget -= min(s.prompt, budget)
        if chunks and rule == "sglang":
            decoding = []
        now_s += step_s(table, decoding, chunks, len(running))
        for s, new in chunks:
            s.done += new
        for s in decoding + [s for s, _ in chunks if s.done == s.prompt]:
            s.tokens_s.append(now_s)
        for s in [s for s in running if len(s.tokens_s) == s.output]:
            running.remove(s)
            if concurrency is not None and unsent:
                unsent[0].sent_s = now_s
                waiting.append(unsent.popleft())
    return everyone
