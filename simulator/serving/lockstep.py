"""An engine whose data-parallel attention ranks step together: a step is as long as its slowest rank."""

from math import inf

from simulator.serving.engine import Engine
from simulator.serving.rank import Rank


class LockstepEngine(Engine):
    """Any number of ranks; with one it does what `SoloEngine` does."""

    def _next_run(self) -> bool:
        if self._plan():
            self._price_mixed_step()
            return True
        if any(rank.n_decoding for rank in self.ranks):
            self._price_decode_run()
            return True
        return False

    def _plan(self) -> bool:
        """Let the policy fill the next step; whether any rank runs prompts in it."""
        prefilling = False
        for rank in self.ranks:
            if rank.held_tokens > rank.capacity_tokens:
                self._make_room(rank)
            if rank.waiting or rank.partial:
                rank.chunks = self._policy.plan(rank, self._run.start_s)
                if rank.chunks:
                    prefilling = True
        return prefilling

    def _price_mixed_step(self) -> None:
        clock = self._clock
        widest = total = sampled = running = 0
        slowest_s = 0.0
        for rank in self.ranks:
            tokens, rank_sampled, attention_s = self._price_rank(rank)
            widest = max(widest, tokens)
            total += tokens
            sampled = max(sampled, rank_sampled)
            running += len(rank.running)
            slowest_s = max(slowest_s, attention_s)
        self.n_prefill_steps += 1
        run = self._run
        run.first_s = clock.tokens_s(widest, total, sampled, running) + clock.host_prefill_s + slowest_s
        run.growth_s = 0.0
        run.stop_after(1)

    def _price_rank(self, rank: Rank) -> tuple[int, int, float]:
        """Tokens of a rank's next step, sequences it samples, and its attention seconds."""
        clock = self._clock
        chunks = rank.chunks
        decoding = rank.n_in_step = 0 if chunks and self._stalls_decode else rank.n_decoding
        attention_s = clock.decode[decoding].at(rank.context_tokens / decoding) if decoding else 0.0
        if not chunks:
            return decoding, decoding, attention_s
        tokens, products = rank.take(chunks)
        attention_s += clock.prefill[len(chunks)].at(tokens / len(chunks)) + clock.prefix_s * products
        self.n_prefill_tokens += tokens
        return decoding + tokens, decoding + len(rank.completing), attention_s

    def _price_decode_run(self) -> None:
        clock = self._clock
        widest = total = running = 0
        attention_s = growth_s = 0.0
        limit = inf
        for rank in self.ranks:
            decoding = rank.n_in_step = rank.n_decoding
            running += len(rank.running)
            if not decoding:
                continue
            total += decoding
            widest = max(widest, decoding)
            length = rank.context_tokens / decoding
            rank_s, slope_s, knot = clock.decode[decoding].line(length)
            limit = min(
                limit, rank.next_finish_step - rank.decode_step, rank.room(), (knot - length) // 1 + 1
            )
            if rank_s > attention_s or (rank_s == attention_s and slope_s > growth_s):
                attention_s, growth_s = rank_s, slope_s
        run = self._run
        run.first_s = clock.tokens_s(widest, total, widest, running) + attention_s
        run.growth_s = growth_s
        run.stop_after(int(min(limit, self._steps_led(attention_s, growth_s))) if self._jumps else 1)
        if self._next_arrival_s < run.end_s and run.n_steps > 1:
            self._stop_for_arrival()

    def _steps_led(self, attention_s: float, growth_s: float) -> float:
        """Decode steps for which the rank with these attention seconds and growth stays the slowest."""
        steps = inf
        for rank in self.ranks:
            if rank.n_decoding:
                row = self._clock.decode[rank.n_decoding]
                rank_s, slope_s, _ = row.line(rank.context_tokens / rank.n_decoding)
                if slope_s > growth_s:
                    steps = min(steps, (attention_s - rank_s) / (slope_s - growth_s) // 1 + 1)
        return steps

    def _account(self) -> None:
        run = self._run
        weight = decoding = kv_tokens = 0
        for rank in self.ranks:
            in_step = rank.n_in_step
            if in_step:
                decoding += in_step
                rank.decode(run.n_steps)
                if rank.gaps.stalled:
                    rank.gaps.end_stall(run, in_step)
                else:
                    weight += in_step
                rank.gaps.last_decode_s = run.end_s
            kv_tokens = max(kv_tokens, rank.held_tokens - in_step)
            if in_step and rank.decode_step == rank.next_finish_step:
                self._finish_due(rank)
            if rank.chunks:
                self._complete_prompts(rank)
        self.log += (run.first_s, run.growth_s, run.n_steps, weight, decoding, kv_tokens)
