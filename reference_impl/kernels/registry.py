"""Semantic kernels: one custom operator each, with its fake and its work beside it.

A kernel is an ordinary typed function that runs, registered with PyTorch so that a trace shows one node a
call. Beside it stand a fake, which makes the outputs from shapes alone, and the rules that say what a call
costs: FLOP of its matrix products (vector work is priced by its traffic) and bytes by role. The rules take
integers and `Expression` alike. Who runs a kernel where, and how long it takes, is left to others.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import reduce, wraps
from operator import mul
from typing import Any, TypeVar, cast

from torch.library import custom_op

from model_graphs.expressions import Expression, as_expression, call
from model_graphs.graph import Role

NAMESPACE = "silicast"

Dim = int | Expression
Scalar = int | float | str | bool
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operand:
    """A tensor of a call, as far as its cost needs it.

    `stored_bytes` is what it occupies where that is not the element's bytes: scales beside codes, codes of
    few bits, pruned weights.
    """

    shape: tuple[Dim, ...]
    dtype: str
    element_bytes: int
    role: Role
    stored_bytes: Dim | None = None

    @property
    def n_elements(self) -> Dim:
        """Elements of the tensor."""
        return product(*self.shape)

    @property
    def n_bytes(self) -> Dim:
        """Bytes of the tensor."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return self.n_elements * self.element_bytes


@dataclass(frozen=True)
class Call:
    """One call of a kernel: tensors and scalars by argument name, outputs in order."""

    inputs: Mapping[str, Operand]
    outputs: tuple[Operand, ...]
    scalars: Mapping[str, Scalar]

    def __getitem__(self, argument: str) -> Operand:
        return self.inputs[argument]

    def bytes_of(self, role: Role) -> Dim:
        """Bytes of the inputs that play the role."""
        return sum((operand.n_bytes for operand in self.inputs.values() if operand.role is role), 0)


@dataclass(frozen=True)
class Work:
    """What a call costs: FLOP with and without the masked half of attention, and bytes by role."""

    flop: Dim
    causal_flop: Dim
    weight_bytes: Dim
    activation_read_bytes: Dim
    activation_write_bytes: Dim
    cache_read_bytes: Dim
    cache_write_bytes: Dim


Rule = Callable[[Call], Dim]


def computed_as_read(call: Call) -> str:
    """What plain kernels compute in: fp32 for an input in fp32, else bf16."""
    first = next(iter(call.inputs.values()))
    return "fp32" if first.dtype == "fp32" else "bf16"


@dataclass(frozen=True)
class Kernel:
    """What the graph must know of a kernel beyond its signature.

    `rules` replace, by the name of a field of `Work`, what the roles of the operands say about traffic.
    `view` gathers the tensors of a call, such as codes and scales, into the operands that the graph shows;
    the rules see its result. `compute` says what a product is computed in.
    """

    kind: str
    inputs: Mapping[str, Role]
    outputs: tuple[Role, ...]
    flop: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    attrs: Callable[[Call], dict[str, Scalar]] = lambda call: {}
    message_bytes: Rule | None = None
    view: Callable[[Call], Call] = lambda call: call
    compute: Callable[[Call], str] = computed_as_read

    def work(self, call: Call) -> Work:
        """The cost of a call: every operand read or written once, except where a rule knows better."""
        flop = self.flop(call)
        fields: dict[str, Dim] = {
            "flop": flop,
            "causal_flop": flop,
            "weight_bytes": call.bytes_of(Role.WEIGHT),
            "activation_read_bytes": call.bytes_of(Role.ACTIVATION) + call.bytes_of(Role.INDEX),
            "activation_write_bytes": _written(call, Role.ACTIVATION, Role.INDEX),
            "cache_read_bytes": call.bytes_of(Role.CACHE) + call.bytes_of(Role.STATE),
            "cache_write_bytes": _written(call, Role.CACHE, Role.STATE),
        }
        return Work(**fields | {name: rule(call) for name, rule in self.rules.items()})


#: by the name of the custom operator, which is the kind unless several operators are of one kind
KERNELS: dict[str, Kernel] = {}

_PLAIN: ContextVar[bool] = ContextVar("plain_kernels", default=False)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Inside, kernels run as the plain functions they are: autograd and autocast see their operations."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def kernel(
    kind: str,
    *,
    fake: Callable[..., Any],
    name: str = "",
    inputs: Mapping[str, Role] | None = None,
    outputs: tuple[Role, ...] = (Role.ACTIVATION,),
    flop: Rule = lambda call: 0,
    rules: Mapping[str, Rule] | None = None,
    attrs: Callable[[Call], dict[str, Scalar]] = lambda call: {},
    message_bytes: Rule | None = None,
    view: Callable[[Call], Call] = lambda call: call,
    compute: Callable[[Call], str] = computed_as_read,
) -> Callable[[Function], Function]:
    """Register the decorated function as the kernel that runs for `kind`, as the operator `name` or the kind.

    Inputs that are not named in `inputs` are activations. The function must return fresh contiguous tensors.
    """

    def register(function: Function) -> Function:
        operator = custom_op(f"{NAMESPACE}::{name or kind}", function, mutates_args=())
        operator.register_fake(fake)
        KERNELS[name or kind] = Kernel(
            kind, inputs or {}, outputs, flop, rules or {}, attrs, message_bytes, view, compute
        )

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if _PLAIN.get() else operator(*args, **kwargs)

        return cast(Function, run)

    return register


def product(*factors: Dim) -> Dim:
    """Product of integers and expressions; one for none."""
    return reduce(mul, factors, 1)


def _written(call: Call, *roles: Role) -> Dim:
    return sum((operand.n_bytes for operand in call.outputs if operand.role in roles), 0)


def minimum(first: Dim, second: Dim) -> Dim:
    """The smaller of two sizes."""
    return _folded("min", first, second)


def maximum(first: Dim, second: Dim) -> Dim:
    """The larger of two sizes."""
    return _folded("max", first, second)


def _folded(function: str, first: Dim, second: Dim) -> Dim:
    if isinstance(first, int) and isinstance(second, int):
        return min(first, second) if function == "min" else max(first, second)
    return call(function, (as_expression(first), as_expression(second)))
