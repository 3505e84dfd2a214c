"""A link whose capacity the flows on it share equally (processor sharing), by the virtual-time method.

Virtual time runs at 1 / n while n flows share the link, so that a flow which alone takes `alone_s` ends when
virtual time has advanced by `alone_s`, whatever comes and goes in between. A flow that starts or ends costs
one push or pop; nothing is recomputed for the others.
"""

from heapq import heappop, heappush

import simpy


class SharedLink:
    """A link in a simpy environment. Flows have equal weight and no rate limit of their own."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._flows: list[tuple[float, int, simpy.Event]] = []  # (virtual time of the end, order, done)
        self._n_carried = 0
        self._virtual_s = 0.0
        self._updated_s = 0.0

    def carry(self, alone_s: float) -> simpy.Event:
        """An event at the end of a flow that starts now and would take `alone_s` with the link to itself."""
        self._advance()
        done = self._env.event()
        heappush(self._flows, (self._virtual_s + alone_s, self._n_carried, done))
        self._n_carried += 1
        self._watch_next_end()
        return done

    def _advance(self) -> None:
        """Bring virtual time up to now; an idle link starts again from zero, so rounding cannot pile up."""
        now_s = self._env.now
        if self._flows:
            self._virtual_s += (now_s - self._updated_s) / len(self._flows)
        else:
            self._virtual_s = 0.0
        self._updated_s = now_s

    def _watch_next_end(self) -> None:
        """Wake when the next flow ends unless another one starts before; that start sets its own watch."""
        if not self._flows:
            return
        n_carried, left_s = self._n_carried, self._flows[0][0] - self._virtual_s
        wake = self._env.timeout(max(left_s, 0.0) * len(self._flows))
        wake.callbacks.append(lambda _: self._end_flows() if self._n_carried == n_carried else None)

    def _end_flows(self) -> None:
        """End the flows that are due. Virtual time becomes the due time itself, not a sum near it."""
        self._virtual_s, self._updated_s = self._flows[0][0], self._env.now
        while self._flows and self._flows[0][0] <= self._virtual_s:
            heappop(self._flows)[2].succeed()
        self._watch_next_end()
