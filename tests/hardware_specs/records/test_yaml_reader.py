from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.records.errors import InputError
from hardware_specs.records.yaml_reader import Plain, parse_document, validate_document, validate_file


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Square(Strict):
    kind: Literal["square"]
    side: float = Field(gt=0)


class Disc(Strict):
    kind: Literal["disc"]
    radius: float


class Drawing(Strict):
    name: str
    copies: int = Field(1, ge=1)
    scale: float = 1.0
    tone: Literal["light", "dark"] = "light"
    day: str = ""
    shape: Annotated[Square | Disc, Field(discriminator="kind")] | None = None
    marks: tuple[Square, ...] = ()


def data_of(text: str) -> Plain:
    return parse_document(text, "f.yaml").data


def problems_of(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        validate_document(Drawing, parse_document(text, "f.yaml"))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("141e9", 141e9),
        ("1.5", 1.5),
        ("-3", -3),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 17),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("2026-03-01", "2026-03-01"),
        ("'8'", "8"),
        ("0.5.9", "0.5.9"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Plain) -> None:
    data = data_of(f"a: {text}")
    assert data == {"a": value}
    assert isinstance(data, dict)
    assert type(data["a"]) is type(value)


def test_positions_are_those_of_the_values_and_of_the_keys() -> None:
    document = parse_document("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    assert document.values["a",] == (1, 4)
    assert document.values["b", 1, "c"] == (4, 9)
    assert document.keys["b", 1, "c"] == (4, 6)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [echo]",
        "a: !custom 1",
        "!!python/object:object {}",
        "a: !!binary aGVsbG8=",
        "a: !!set {x, y}",
    ],
)
def test_a_tag_is_refused_and_nothing_runs(text: str) -> None:
    with pytest.raises(InputError, match="must be plain YAML without tags"):
        data_of(text)


def test_duplicate_keys_are_all_reported() -> None:
    with pytest.raises(InputError) as caught:
        data_of("a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n")
    assert [str(problem) for problem in caught.value.problems] == [
        "f.yaml:3:1  a  a key must appear once; the first is on line 1",
        "f.yaml:4:11  c.d  a key must appear once; the first is on line 4",
    ]


def test_an_alias_repeats_text_but_not_a_collection() -> None:
    assert data_of("a: &s text\nb: *s\n") == {"a": "text", "b": "text"}
    with pytest.raises(InputError, match="not a list or a mapping"):
        data_of("a: &l [1]\nb: *l\n")
    with pytest.raises(InputError, match="not a list or a mapping"):
        data_of("a: &r [*r]\n")


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999"])
def test_a_number_must_be_finite(text: str) -> None:
    with pytest.raises(InputError, match="must be a finite number"):
        data_of(f"a: {text}")


def test_broken_yaml_says_where() -> None:
    with pytest.raises(InputError, match=r"f\.yaml:2:4  must be valid YAML"):
        data_of("a: [1\n  b: }\n")
    with pytest.raises(InputError, match="must not be empty"):
        data_of("# only a comment\n")


def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a readable UTF-8 file; given No such file"):
        validate_file(Drawing, tmp_path / "absent.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match="must be a readable UTF-8 file"):
        validate_file(Drawing, latin)


def test_a_right_file_becomes_the_record(tmp_path: Path) -> None:
    file = tmp_path / "drawing.yaml"
    file.write_text("name: a\nshape: {kind: disc, radius: 2}\nmarks:\n- {kind: square, side: 1}\n")
    drawing = validate_file(Drawing, file)
    assert drawing.shape == Disc(kind="disc", radius=2.0)
    assert drawing.marks == (Square(kind="square", side=1.0),)


def test_three_problems_at_once_with_line_and_column() -> None:
    text = "name: a\ncopis: 2\nscale: fast\nmarks:\n  - kind: square\n    side: -1\n"
    assert problems_of(text) == [
        "f.yaml:2:1  copis  is not a key here; the keys here are copies, day, marks, name, scale, shape, "
        "tone; did you mean copies?",
        "f.yaml:3:8  scale  must be a number; given 'fast'",
        "f.yaml:6:11  marks[0].side  must be greater than 0; given -1",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("copies: 2", "f.yaml:1:1  name  must be given"),
        ("nam: a", "f.yaml:1:1  name  must be given; given nam, which is not a key here"),
        ("name: 8", "f.yaml:1:7  name  must be text; put it in quotes; given 8"),
        ("name: a\ncopies: '8'", "f.yaml:2:9  copies  must be a whole number; given '8'"),
        ("name: a\ncopies: 0", "f.yaml:2:9  copies  must be at least 1; given 0"),
        (
            "name: a\ntone: drak",
            "f.yaml:2:7  tone  must be 'light' or 'dark'; given 'drak'; did you mean dark?",
        ),
        ("name: a\nshape: 3", "f.yaml:2:8  shape  must be a mapping of keys to values; given 3"),
        (
            "name: a\nshape: {kind: disk}",
            "f.yaml:2:15  shape.kind  must be one of 'square', 'disc'; given disk",
        ),
        ("name: a\nshape: {side: 1}", "f.yaml:2:8  shape.kind  must be given"),
        ("name: a\nshape: {kind: square}", "f.yaml:2:8  shape.side  must be given"),
        ("name: a\nmarks: 1", "f.yaml:2:8  marks  must be a list; given 1"),
        ("- a", "f.yaml:1:1  must be a mapping of keys to values; given a list"),
    ],
)
def test_every_problem_is_a_sentence_of_this_project(text: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in problems_of(text)), problems_of(text)


def test_an_unknown_key_inside_a_union_member_offers_the_keys_there() -> None:
    assert problems_of("name: a\nshape: {kind: disc, radius: 1, sade: 2}")[0].startswith(
        "f.yaml:2:32  shape.sade  is not a key here; the keys here are kind, radius"
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
def test_any_data_is_accepted_or_refused_with_sentences(data: Plain) -> None:
    import json

    try:
        document = parse_document(json.dumps({"name": "a", "shape": data}), "f.yaml")
        validate_document(Drawing, document)
    except InputError as error:
        assert all(problem.requirement and problem.line for problem in error.problems)
