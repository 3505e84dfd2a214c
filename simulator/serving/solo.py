"""An engine with one attention rank, as most have: the rules of lockstep in one straight line."""

from simulator.serving.engine import Engine
from simulator.serving.rank import Chunk, Rank


class SoloEngine(Engine):
    """One rank, without loops and maxima over ranks; a test holds it to `LockstepEngine` with one rank."""

    def _next_run(self) -> bool:
        rank = self.ranks[0]
        if rank.held_tokens > rank.capacity_tokens:
            self._make_room(rank)
        if rank.waiting or rank.partial:
            chunks = self._policy.plan(rank, self._run.start_s)
            if chunks:
                self._price_mixed_step(rank, chunks)
                return True
        if rank.n_decoding:
            self._price_decode_run(rank)
            return True
        return False

    def _price_mixed_step(self, rank: Rank, chunks: list[Chunk]) -> None:
        clock, run = self._clock, self._run
        n_chunks = len(chunks)
        decoding = rank.n_in_step = 0 if self._stalls_decode else rank.n_decoding
        tokens, products = rank.take(chunks)
        self.n_prefill_steps += 1
        self.n_prefill_tokens += tokens
        first_s = (
            clock.solo_s[decoding + tokens]
            + clock.head_s[decoding + len(rank.completing)]
            + clock.host_per_sequence_s * len(rank.running)
            + clock.host_prefill_s
            + clock.prefill[n_chunks].at(tokens / n_chunks)
            + clock.prefix_s * products
        )
        if decoding:
            first_s += clock.decode[decoding].at(rank.context_tokens / decoding)
        run.first_s = first_s
        run.growth_s = 0.0
        run.n_steps = 1
        run.end_s = run.start_s + first_s

    def _price_decode_run(self, rank: Rank) -> None:
        decoding = rank.n_in_step = rank.n_decoding
        clock, run = self._clock, self._run
        length = rank.context_tokens / decoding
        first_s, growth_s, knot = clock.solo_decode[decoding].line(length)
        n_running = len(rank.running)
        first_s += clock.host_per_sequence_s * n_running
        n_steps = rank.next_finish_step - rank.decode_step if self._jumps else 1
        if n_steps > 1:
            if length + n_steps - 1 > knot:
                n_steps = int(knot - length) + 1
            if rank.held_tokens + (n_steps - 1) * decoding > rank.capacity_tokens:
                n_steps = rank.room()
        run.first_s = first_s
        run.growth_s = growth_s
        run.n_steps = n_steps
        run.end_s = run.start_s + (n_steps * first_s + growth_s * (n_steps * (n_steps - 1) / 2))
        if n_steps > 1 and self._next_arrival_s < run.end_s and n_running < rank.max_running:
            run.stop_for(self._next_arrival_s, self._lag_steps)

    def _account(self) -> None:
        run, rank = self._run, self.ranks[0]
        n_steps = run.n_steps
        weight = decoding = rank.n_in_step
        kv_tokens = rank.held_tokens
        if decoding:
            tokens = n_steps * decoding
            rank.decode_step += n_steps
            rank.held_tokens += tokens
            rank.context_tokens += tokens
            rank.owed_tokens -= tokens
            kv_tokens += tokens - decoding
            if rank.gaps.stalled:
                rank.gaps.end_stall(run, decoding)
                weight = 0
            rank.gaps.last_decode_s = run.end_s
        self.log += (run.first_s, run.growth_s, n_steps, weight, decoding, kv_tokens)
        if decoding and rank.decode_step == rank.next_finish_step:
            self._finish_due(rank)
        if rank.chunks:
            self._complete_prompts(rank)
