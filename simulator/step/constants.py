"""The fitted constants of a serving stack, as plain SI floats."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class StackConstants:
    """The at most eight fitted constants of a stack version, SI units. Each has a physical reading.

    kernel_scale: device time of matrix and attention kernels against the kernel models.
    small_kernel_s: launch and drain of one bandwidth-bound kernel inside a captured graph.
    prefill_scale: device time of prefill work against the kernel models.
    host_base_s, host_per_sequence_s: host time of a step that the device waits for, and its slope.
    host_prefill_s: extra host time of a step that prefills (no graph capture).
    first_token_s: request path and output path outside the steps.
    stream_interval_steps: steps for which a finished first token waits to be streamed.
    """

    kernel_scale: float = 1.0
    small_kernel_s: float = 1.5e-6
    prefill_scale: float = 1.05
    host_base_s: float = 0.0
    host_per_sequence_s: float = 0.0
    host_prefill_s: float = 0.0
    first_token_s: float = 0.0
    stream_interval_steps: float = 0.0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the constants in their fixed order."""
        return tuple(field.name for field in fields(cls))
