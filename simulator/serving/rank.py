"""Bookkeeping of one attention rank, at a constant cost a step however many sequences run.

A rank keeps sums (tokens in the KV cache, context that attention reads, output still owed) and buckets of
requests by the decode step in which they finish; it never visits its sequences one by one. When a step
happens is the engine's business, what goes into a step the policy's.
"""

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from simulator.serving.gaps import TokenGaps

#: a time that has not come yet
UNKNOWN_S = -1.0

#: a piece of a prompt in a step: request, new tokens, tokens of it computed before
Chunk = tuple[int, int, int]


class Ledger:
    """Per-request columns of a run, as lists indexed by request; times in seconds, `UNKNOWN_S` before.

    `prompt` is what must be prefilled (the input, and after a preemption the output so far too), `done` how
    much of it is; `left` is the output still to come as of the last time the request was queued;
    `finish_step` is the decode step of its rank in which a decoding request ends, -1 for the others.
    """

    __slots__ = ("admitted_s", "done", "finish_s", "finish_step", "first_token_s", "left", "prompt", "sent_s")

    def __init__(self, input_tokens: list[int], output_tokens: list[int], sent_s: list[float] | None) -> None:
        n_requests = len(input_tokens)
        self.prompt = list(input_tokens)
        self.left = list(output_tokens)
        self.done = [0] * n_requests
        self.finish_step = [-1] * n_requests
        self.sent_s = [UNKNOWN_S] * n_requests if sent_s is None else sent_s
        self.admitted_s = [UNKNOWN_S] * n_requests
        self.first_token_s = [UNKNOWN_S] * n_requests
        self.finish_s = [UNKNOWN_S] * n_requests


class RankLimits(NamedTuple):
    """What bounds one rank; a sequence takes `kv_tokens_per_sequence` of the cache beside its tokens."""

    step_tokens: int
    max_running: int
    kv_capacity_tokens: int
    kv_reserve_output_fraction: float
    kv_tokens_per_sequence: int = 0


class Rank:
    """The running set of one attention rank and the queue in front of it.

    `held_tokens` is what the KV cache holds once the next step has taken its slots: the prompts of admitted
    requests in full, and every token generated. `owed_tokens` is the output that running requests still have
    to produce. `context_tokens` is what attention reads in the next decode step, its own new tokens included.
    """

    def __init__(self, ledger: Ledger, limits: RankLimits) -> None:
        self.ledger = ledger
        self.step_tokens = limits.step_tokens
        self.max_running = limits.max_running
        self.capacity_tokens = limits.kv_capacity_tokens
        self.reserve_fraction = limits.kv_reserve_output_fraction
        self.tokens_per_sequence = limits.kv_tokens_per_sequence
        self.waiting: deque[int] = deque()
        self.partial: list[int] = []  # admitted, prompt not computed to its end, in order of admission
        self.chunks: list[Chunk] = []  # of the step in progress
        self.completing: list[int] = []  # requests whose prompts end with it
        self.running: dict[int, None] = {}  # admitted and not finished, in order of admission
        self.n_decoding = 0
        self.n_in_step = 0  # sequences that decode in the step in progress
        self.held_tokens = 0
        self.owed_tokens = 0
        self.context_tokens = 0
        self.decode_step = 0
        self.next_finish_step = 0  # meaningless while nothing decodes
        self._finish_at: dict[int, list[int]] = {}
        self._finish_steps: list[int] = []
        self.gaps = TokenGaps()

    def admissible(self) -> bool:
        """Whether the head of the queue may start: there is a free slot, and cache with the reservation."""
        if len(self.running) >= self.max_running:
            return False
        request = self.waiting[0]
        fraction = self.reserve_fraction
        wanted = self.ledger.prompt[request] + fraction * self.ledger.left[request]
        wanted += self.tokens_per_sequence * (len(self.running) + 1)
        return self.held_tokens + fraction * self.owed_tokens + wanted <= self.capacity_tokens

    def admit(self, now_s: float) -> int:
        """The request at the head of the queue, started: its whole prompt is held from here on."""
        request = self.waiting.popleft()
        ledger = self.ledger
        self.held_tokens += ledger.prompt[request]
        self.owed_tokens += ledger.left[request]
        self.partial.append(request)
        self.running[request] = None
        if ledger.admitted_s[request] < 0.0:
            ledger.admitted_s[request] = now_s
        return request

    def room(self) -> int:
        """Decode steps that the cache has room for, the next one included."""
        free = self.capacity_tokens - self.held_tokens - self.tokens_per_sequence * len(self.running)
        return free // self.n_decoding + 1

    def take(self, chunks: list[Chunk]) -> tuple[int, int]:
        """Count in the next step's chunks: their new tokens, and the sum of new times past tokens."""
        ledger = self.ledger
        prompt, done = ledger.prompt, ledger.done
        self.chunks = chunks
        completing = self.completing = []
        tokens = products = 0
        for request, new, past in chunks:
            tokens += new
            products += new * past
            done[request] = past + new
            if past + new == prompt[request]:
                completing.append(request)
        return tokens, products

    def start_decoding(self, request: int) -> None:
        """Count in a request whose prompt is complete and whose next token has been sampled."""
        ledger = self.ledger
        self.partial.remove(request)
        self.n_decoding += 1
        self.held_tokens += 1
        self.owed_tokens -= 1
        self.context_tokens += ledger.prompt[request] + 1
        step = ledger.finish_step[request] = self.decode_step + ledger.left[request] - 1
        bucket = self._finish_at.get(step)
        if bucket is None:
            self._finish_at[step] = [request]
            heappush(self._finish_steps, step)
            self.next_finish_step = self._finish_steps[0]
        else:
            bucket.append(request)

    def decode(self, n_steps: int) -> None:
        """Count in decode steps of every decoding sequence; none may finish before the last of them."""
        self.decode_step += n_steps
        tokens = n_steps * self.n_decoding
        self.held_tokens += tokens
        self.context_tokens += tokens
        self.owed_tokens -= tokens

    def finish_due(self) -> list[int]:
        """The requests that end with the decode step just counted in, taken out of the running set."""
        heappop(self._finish_steps)
        due = self._finish_at.pop(self.decode_step)
        if self._finish_steps:
            self.next_finish_step = self._finish_steps[0]
        ledger = self.ledger
        freed = 0
        for request in due:
            freed += ledger.prompt[request] + ledger.left[request]
            del self.running[request]
        self.n_decoding -= len(due)
        self.held_tokens -= freed
        self.context_tokens -= freed
        return due

    def finish_at_once(self, request: int) -> None:
        """Take out a request whose only token came with its prompt."""
        del self.running[request]
        self.partial.remove(request)
        self.owed_tokens -= 1
        self.held_tokens -= self.ledger.prompt[request]

    def generated(self, request: int) -> int:
        """Output tokens that a running request has, those before a preemption not counted."""
        step = self.ledger.finish_step[request]
        return self.ledger.left[request] - (step - self.decode_step) if step >= 0 else 0

    def preempt(self, request: int, requeue_at_head: bool) -> None:
        """Take a running request out and queue it again, its output so far now part of its prompt."""
        ledger = self.ledger
        if ledger.finish_step[request] >= 0:
            self._stop_decoding(request)
        else:
            self.partial.remove(request)
        del self.running[request]
        self.held_tokens -= ledger.prompt[request]
        self.owed_tokens -= ledger.left[request]
        ledger.done[request] = 0
        if requeue_at_head:
            self.waiting.appendleft(request)
        else:
            self.waiting.append(request)

    def _stop_decoding(self, request: int) -> None:
        ledger = self.ledger
        self.gaps.leave(request, ledger.first_token_s[request])
        generated = self.generated(request)
        self._finish_at[ledger.finish_step[request]].remove(request)
        ledger.finish_step[request] = -1
        ledger.prompt[request] += generated
        ledger.left[request] -= generated
        self.n_decoding -= 1
        self.context_tokens -= ledger.prompt[request]
