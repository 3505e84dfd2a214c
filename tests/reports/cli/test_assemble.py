import argparse
from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from reports.cli.assemble import scenario_from
from reports.cli.flags import add_scenario_flags
from reports.scenarios import example_names, load_scenario
from simulator.scenario.model import ClosedLoop, Poisson, TraceReplay

R1 = ["--model", "deepseek-r1", "--system", "h200_sxm"]


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_scenario_flags(parser)
    return parser.parse_args(flags)


def test_flags_alone_make_a_scenario_and_its_defaults_are_assumptions() -> None:
    scenario, assumed = scenario_from(parsed(*R1, "--concurrency", "32", "--osl", "256"))
    assert scenario.workload.arrivals == ClosedLoop(concurrency=32)
    assert (scenario.workload.input_tokens.mean, scenario.workload.output_tokens.mean) == (1024, 256)
    assert [one.what for one in assumed] == ["--isl", "--tp", "--stack", "--precision"]


def test_without_gpus_there_is_one_replica() -> None:
    scenario, _ = scenario_from(parsed(*R1, "--tp", "2", "--dp", "4"))
    assert scenario.deployment.gpus == 8
    assert scenario.deployment.replicas == 1


def test_a_rate_is_poisson_and_a_trace_carries_its_lengths() -> None:
    scenario, _ = scenario_from(parsed(*R1, "--request-rate", "2.5", "--requests", "50"))
    assert scenario.workload.arrivals == Poisson(rate_per_s=2.5, requests=50)
    scenario, _ = scenario_from(parsed(*R1, "--trace", "calls.csv", "--requests", "50"))
    assert scenario.workload.arrivals == TraceReplay(path="calls.csv", max_requests=50)
    assert scenario.workload.input_tokens is None


def test_a_trace_with_lengths_is_refused() -> None:
    with pytest.raises(InputError, match="--isl  must not be given with a trace"):
        scenario_from(parsed(*R1, "--trace", "calls.csv", "--isl", "100"))


def test_flags_override_the_file_and_leave_the_rest_alone() -> None:
    base = load_scenario("deepseek-r1-8xh200")
    scenario, assumed = scenario_from(parsed("deepseek-r1-8xh200", "--concurrency", "8", "--isl", "2048"))
    assert scenario.workload.arrivals == ClosedLoop(concurrency=8)
    assert scenario.workload.input_tokens.mean == 2048
    assert scenario.workload.input_tokens.law == base.workload.input_tokens.law
    assert scenario.deployment == base.deployment
    assert scenario.points == base.points
    assert assumed == ()


def test_measured_points_leave_with_the_deployment_they_were_measured_on() -> None:
    scenario, assumed = scenario_from(parsed("deepseek-r1-8xh200", "--system", "b200_sxm"))
    assert scenario.points == ()
    assert [one.what for one in assumed] == ["measured points of the scenario"]
    same, _ = scenario_from(parsed("deepseek-r1-8xh200", "--system", "h200_sxm"))
    assert same.points


def test_every_wrong_flag_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        scenario_from(parsed(*R1, "--tp", "0", "--stack", "sglanng", "--price", "-1", "--isl", "0"))
    problems = {problem.path: problem for problem in caught.value.problems}
    assert set(problems) == {"--tp", "--stack", "--price", "--isl"}
    assert problems["--stack"].suggestion == "sglang"
    assert problems["--tp"].requirement == "must be at least 1"


def test_model_and_system_are_required_without_a_file() -> None:
    with pytest.raises(InputError) as caught:
        scenario_from(parsed("--tp", "8"))
    assert [problem.path for problem in caught.value.problems] == ["--model", "--system"]


@pytest.mark.parametrize("name", example_names())
def test_every_example_is_right(name: str) -> None:
    assert load_scenario(name).name == name


def test_the_commented_template_is_right(tmp_path: Path) -> None:
    from reports.cli.init import template

    path = tmp_path / "mine.yaml"
    path.write_text(template())
    assert load_scenario(str(path)).deployment.model == "deepseek-r1"


def test_an_unknown_scenario_names_the_nearest_example() -> None:
    with pytest.raises(InputError, match="did you mean deepseek-r1-8xh200"):
        load_scenario("deepseek-r1-8h200")
