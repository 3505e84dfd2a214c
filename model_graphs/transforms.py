"""Transforms: what is done to the matrix products of a plain model, said once for its graph and its numerics.

A plan is a list of rules; the first whose pattern fits a product decides how its weight is stored, whether it
is pruned, what its input is quantised to and what its partial sums are added in.
`model_graphs.transform_pass` does this to a graph, `reference_impl.transforms` to the model that runs, and
tests hold the two equal operator by operator. What element types occupy is in `model_graphs.dtypes`.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import validate_file
from model_graphs.dtypes import INPUT_DTYPES, ROW_DTYPES, WEIGHT_DTYPES

#: products with weights that a plan may change
PRODUCT_KINDS = ("linear", "moe_experts")

#: linears of attention, MLPs and shared experts, and the routed experts
INNER_PRODUCTS = ("attention", "mlp", "shared_expert", "moe")


Accumulation = Literal["fp32", "bf16", "bf16_compensated"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pruning(_Record):
    """Weights of least magnitude set to zero: two of every four along a row, or a fraction of each matrix."""

    pattern: Literal["2of4", "unstructured"]
    fraction: float = Field(0.5, ge=0, lt=1, description="of the weights, which are zero")

    @model_validator(mode="after")
    def _pattern_fixes_fraction(self) -> Self:
        if self.pattern == "2of4" and self.fraction != 0.5:
            raise InputError(Problem("must be 0.5 under 2of4", str(self.fraction), path="fraction"))
        return self

    @property
    def layout(self) -> str:
        """How `model_graphs.dtypes` names the storage of what is left."""
        return self.pattern if self.pattern == "2of4" else f"{self.fraction:g}"


class Rule(_Record):
    """What happens to the products that a pattern chooses: components, or names with `*`."""

    products: Annotated[tuple[str, ...], Field(min_length=1)]
    weights: str = Field("bf16", description="what weights are stored in")
    inputs: str = Field("bf16", description="what the input is quantised to before the product")
    pruning: Pruning | None = None
    accumulation: Accumulation = Field(
        "fp32", description="what the partial sums over blocks of the inner width are added in"
    )

    @model_validator(mode="after")
    def _dtypes_are_known(self) -> Self:
        problems = list(_dtype_problems(self))
        if problems:
            raise InputError(*problems)
        return self

    @property
    def storage(self) -> str:
        """Element type of a stored weight, with the layout of its non-zeros where it is pruned."""
        return self.weights if self.pruning is None else f"{self.weights}:{self.pruning.layout}"

    def chooses(self, component: str, name: str) -> bool:
        """Whether the rule is for a product of this component or name."""
        return any(component == pattern or fnmatchcase(name, pattern) for pattern in self.products)


def _dtype_problems(rule: Rule) -> Iterator[Problem]:
    if rule.weights not in WEIGHT_DTYPES:
        requirement = f"must be one of {', '.join(WEIGHT_DTYPES)}"
        yield Problem(
            requirement, repr(rule.weights), path="weights", suggestion=nearest(rule.weights, WEIGHT_DTYPES)
        )
    rows = ROW_DTYPES.get(rule.weights, rule.weights)
    if rule.inputs not in ("bf16", rows):
        yield Problem(
            f"must be bf16 or {rows} beside weights in {rule.weights}", repr(rule.inputs), path="inputs"
        )
    elif rule.inputs not in INPUT_DTYPES:
        yield Problem(f"must be one of {', '.join(INPUT_DTYPES)}", repr(rule.inputs), path="inputs")


class Plan(_Record):
    """Rules in order of precedence. `mtp` says whether multi-token prediction modules follow them too.

    `attention_sums` is what latent attention adds the weighted values of blocks of keys in. `autocast` is
    that of PyTorch, on a model held in fp32 and for every product with weights; it stands alone.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    rules: tuple[Rule, ...] = ()
    attention_sums: Accumulation = "fp32"
    autocast: bool = False
    mtp: bool = True

    @model_validator(mode="after")
    def _autocast_stands_alone(self) -> Self:
        if self.autocast and (self.rules or self.attention_sums != "fp32"):
            raise InputError(Problem("must stand alone, without rules or attention_sums", path="autocast"))
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether the plain model is left as it is."""
        return not (self.rules or self.autocast) and self.attention_sums == "fp32"

    def rule_for(self, kind: str, component: str, name: str) -> Rule | None:
        """The rule of an operator; None where the plan leaves it as it is."""
        if kind not in PRODUCT_KINDS:
            return None
        return next((rule for rule in self.rules if rule.chooses(component, name)), None)


def _one_rule(name: str, **what: object) -> Plan:
    return Plan(name=name, rules=(Rule.model_validate({"products": INNER_PRODUCTS, **what}),))


def _summed(name: str, dtype: str, accumulation: Accumulation) -> Plan:
    """Every sum of blocks, of products and of latent attention, added in few bits."""
    plan = _one_rule(name, weights=dtype, inputs=dtype, accumulation=accumulation)
    return plan.model_copy(update={"attention_sums": accumulation})


def pruned_plan(fraction: float) -> Plan:
    """Magnitude pruning of every inner product to this fraction of zeros, stored with a bitmap.

    Raises:
        InputError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise InputError(
            Problem("must be at least 0 and below 1", f"{fraction:g}", path="sparsity threshold")
        )
    return _one_rule(f"pruned_{fraction:g}", pruning=Pruning(pattern="unstructured", fraction=fraction))


def pruning_named(layout: str) -> Pruning | None:
    """The pruning that a layout names: `2of4`, or a fraction of zeros such as `0.7`; None for an empty text.

    Raises:
        InputError: it is neither.
    """
    if layout in ("", "2of4"):
        return Pruning(pattern="2of4") if layout else None
    requirement = "must be 2of4, or a fraction of zeros of at least 0 and below 1 such as 0.7"
    try:
        fraction = float(layout)
    except ValueError:
        raise InputError(Problem(requirement, repr(layout), path="deployment.pruning")) from None
    if not 0 <= fraction < 1:
        raise InputError(Problem(requirement, layout, path="deployment.pruning"))
    return Pruning(pattern="unstructured", fraction=fraction)


#: FP8 for attention and the shared path, INT8 for the routed experts, which hold most of the weights
_MIXED = Plan(
    name="fp8_int8",
    rules=(
        Rule(products=("moe",), weights="int8", inputs="int8"),
        Rule(products=INNER_PRODUCTS, weights="fp8_block", inputs="fp8_block"),
    ),
)

PLANS: Mapping[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan(name="bf16"),
        Plan(name="autocast", autocast=True),
        _one_rule("fp8", weights="fp8_block", inputs="fp8_block"),
        _one_rule("fp8_tensor", weights="fp8", inputs="fp8"),
        _one_rule("fp8_weights", weights="fp8_block"),
        Plan(
            name="fp4",
            rules=(Rule(products=("mlp", "shared_expert", "moe"), weights="nvfp4", inputs="nvfp4"),),
            mtp=False,
        ),
        _one_rule("mxfp4", weights="mxfp4", inputs="mxfp8"),
        _one_rule("int8", weights="int8", inputs="int8"),
        *(_one_rule(f"int{bits}", weights=f"int{bits}_g128") for bits in (6, 4, 3, 2)),
        _one_rule("int8_weights", weights="int8_g128"),
        _MIXED,
        _one_rule("2of4", pruning=Pruning(pattern="2of4")),
        _one_rule("fp8_2of4", weights="fp8_block", inputs="fp8_block", pruning=Pruning(pattern="2of4")),
        _summed("bf16_sums", "bf16", "bf16"),
        _summed("compensated_sums", "bf16", "bf16_compensated"),
        _summed("fp8_bf16_sums", "fp8_block", "bf16"),
        _summed("fp8_compensated_sums", "fp8_block", "bf16_compensated"),
    )
}


def resolve_plan(name: str) -> Plan:
    """The plan of this name, or of the YAML file at this path.

    Raises:
        InputError: nothing is known under the name, or the file is not a valid plan.
    """
    if name in PLANS:
        return PLANS[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return validate_file(Plan, path, name)
    requirement = f"transform must be one of {', '.join(PLANS)}, or the path of a YAML plan"
    raise InputError(Problem(requirement, repr(name), path="transform", suggestion=nearest(name, PLANS)))
