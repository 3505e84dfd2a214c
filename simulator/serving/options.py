"""What a serving engine is told: its policy, its limits, and the constants of the stack around it."""

from dataclasses import dataclass
from typing import Literal

from hardware_specs.records.errors import InputError, Problem
from simulator.serving.policy import Policy
from simulator.serving.rank import RankLimits

Routing = Literal["round_robin", "least_loaded", "random"]


@dataclass(frozen=True)
class EngineOptions:
    """Options of one engine; every replica has the same, and limits are those of one attention rank.

    `kv_tokens_per_sequence` is what a sequence keeps beside its tokens (windows, states), in tokens.
    `kv_reserve_output_fraction`: see `Policy`; None takes the policy's own rule. `frontend_s_per_token` is
    serial work per prompt token before the engine sees a request, one front end a replica. `first_token_s`
    and `stream_interval_steps` (in TPOTs of the request) delay every token on its way to the client, so they
    add to TTFT and E2E, leave TPOT alone, and hold back the next request of a closed-loop client.
    `pipeline_depth` 2 schedules a step while the one before it still runs: a request waits one step more
    until it is seen. `rank_routing` says which attention rank a request goes to; "least_loaded" counts
    waiting and running requests. `jump_decode_runs` False simulates every decode step by itself, with the
    same result.
    """

    policy: Policy
    step_tokens: int
    max_running: int
    kv_capacity_tokens: int
    kv_reserve_output_fraction: float | None = None
    first_token_s: float = 0.0
    stream_interval_steps: float = 0.0
    frontend_s_per_token: float = 0.0
    pipeline_depth: Literal[1, 2] = 1
    replicas: int = 1
    kv_tokens_per_sequence: int = 0
    rank_routing: Routing = "round_robin"
    jump_decode_runs: bool = True

    def __post_init__(self) -> None:
        problems = [
            Problem(path=name, requirement="must be 1 or more", given=str(getattr(self, name)))
            for name in ("step_tokens", "max_running", "kv_capacity_tokens", "replicas")
            if getattr(self, name) < 1
        ]
        problems += [
            Problem(path=name, requirement="must be zero or more", given=str(getattr(self, name)))
            for name in (
                "first_token_s",
                "stream_interval_steps",
                "frontend_s_per_token",
                "kv_tokens_per_sequence",
            )
            if not getattr(self, name) >= 0
        ]
        if not 0 <= self.reserve_fraction <= 1:
            given = str(self.kv_reserve_output_fraction)
            problems.append(
                Problem(path="kv_reserve_output_fraction", requirement="must be in 0..1", given=given)
            )
        if self.pipeline_depth not in (1, 2):
            given = str(self.pipeline_depth)
            problems.append(Problem(path="pipeline_depth", requirement="must be 1 or 2", given=given))
        if problems:
            raise InputError(*problems)

    @property
    def reserve_fraction(self) -> float:
        """Share of the output still to come that admission counts as taken."""
        stated = self.kv_reserve_output_fraction
        return self.policy.reserve_output_fraction if stated is None else stated

    @property
    def limits(self) -> RankLimits:
        """What bounds one rank."""
        return RankLimits(
            self.step_tokens,
            self.max_running,
            self.kv_capacity_tokens,
            self.reserve_fraction,
            self.kv_tokens_per_sequence,
        )
