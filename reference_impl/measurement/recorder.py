"""Times every kernel call of a step, without knowing which module makes it.

The kernels' own calls are all that is timed; views, Python and hooks between them are the gaps. A call's time
includes what PyTorch takes to dispatch it, which a step of the reference pays with or without a recorder.
"""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from reference_impl.kernels.registry import NAMESPACE
from reference_impl.measurement.clocks import Clock


class Recorder(TorchDispatchMode):
    """Marks the start and the end of every kernel call made inside, in turn."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.marks: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != NAMESPACE:
            return func(*args, **(kwargs or {}))
        mark = self.clock.mark
        self.marks.append(mark())
        out = func(*args, **(kwargs or {}))
        self.marks.append(mark())
        return out
