"""Bad input through the command: exit codes, one line a problem on standard error, nothing half-written."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reports.cli.init import template
from reports.cli.main import main

Run = Callable[..., tuple[int, list[str]]]
R1 = ["--model", "deepseek-r1", "--system", "h200_sxm"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str) -> tuple[int, list[str]]:
        code = main(list(argv))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        if code:
            assert captured.err
        return code, captured.err.splitlines()

    return call


def with_lines(tmp_path: Path, changes: Sequence[tuple[str, str]]) -> Path:
    text = template()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [
        (["--model", "deepsek-r1", "--system", "h200_sxm"], "deepseek-r1"),
        (["--model", "deepseek-r1", "--system", "h200sxm"], "h200_sxm"),
        (["--model", "deepseek-r1", "--system", "h20_sxm"], "h200_sxm"),
    ],
)
def test_an_unknown_model_or_device_names_the_nearest(run: Run, flags: list[str], nearest: str) -> None:
    code, lines = run("simulate", *flags)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].endswith(f"did you mean {nearest}?")


def test_unknown_keys_and_wrong_values_of_a_file_come_all_at_once_with_line_and_column(
    run: Run, tmp_path: Path
) -> None:
    path = with_lines(
        tmp_path, [("  tp: 8", "  tq: 8"), ("precision: fp8", "precision: 8"), ("dp: 1 ", "dp: one ")]
    )
    code, lines = run("simulate", str(path))
    assert code == 2
    assert any(f"{path}:11:3  deployment.tq" in line and "did you mean tp?" in line for line in lines)
    assert any(f"{path}:12:7  deployment.dp" in line and "whole number" in line for line in lines)
    assert any("deployment.precision" in line and "must be text" in line for line in lines)


def test_a_number_without_a_unit_is_refused_with_its_place(run: Run, tmp_path: Path) -> None:
    from importlib.resources import files

    text = (files("hardware_specs") / "links" / "nvlink4.yaml").read_text(encoding="utf-8")
    unit_line = next(line for line in text.splitlines() if "unit:" in line)
    path = tmp_path / "nvlink4.yaml"
    path.write_text(text.replace(unit_line + "\n", "", 1))
    code, lines = run("systems", "check", str(path))
    assert code == 2
    assert any("nvlink4.yaml:7:3  bandwidth" in line and "missing: unit" in line for line in lines)


def test_tp_that_does_not_divide_the_heads(run: Run) -> None:
    code, lines = run("simulate", *R1, "--tp", "3")
    assert code == 2
    assert any("tp" in line and "128" in line for line in lines)


def test_gpus_that_are_no_whole_number_of_replicas(run: Run) -> None:
    code, lines = run("simulate", *R1, "--tp", "8", "--gpus", "12")
    assert code == 2
    assert any("gpus" in line and "given 12" in line for line in lines)


def test_a_model_that_does_not_fit_is_infeasible_with_bytes_and_the_nearest_fit(run: Run) -> None:
    code, lines = run("simulate", "--model", "deepseek-r1", "--system", "h100_sxm", "--tp", "8")
    assert code == 3
    text = " ".join(lines)
    assert "GiB) are available" in text
    assert "bytes" in text
    assert "nearest fit" in text


def test_a_compute_dtype_that_the_device_lacks_is_said_and_computed_in_one_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    flags = ["--model", "deepseek-r1", "--system", "a100_sxm_80gb", "--tp", "16", "--gpus", "16"]
    assert main(["simulate", *flags, "--requests", "16", "--osl", "32", "--json"]) == 0
    ledger = json.loads(capsys.readouterr().out)["assumptions"]
    assert any(
        "bf16" in f"{one['what']} {one['value']} {one['source']}" and "fp8" in str(one) for one in ledger
    )


def test_an_unknown_precision_is_bad_input(run: Run) -> None:
    code, lines = run("simulate", *R1, "--precision", "fp7")
    assert code == 2
    assert any("fp8" in line for line in lines)


def test_a_broken_row_of_a_measured_file_is_named_and_the_rest_is_answered(run: Run, tmp_path: Path) -> None:
    columns = (
        "id,measured,model_path,system,backend,backend_version,image,precision,gemm_quant_mode,moe_quant_mode,mode,"
        "isl,osl,concurrency,num_gpus,tp,attention_dp,moe_tp,moe_ep,ttft_ms,tpot_ms,tpot_repeat_spread,ttft_ok,group"
    )
    row = "2026-03-25,deepseek-ai/DeepSeek-V3,h200_sxm,sglang,0.5.9,,fp8,fp8_block,fp8_block,agg,1024,32"
    path, out = tmp_path / "measured.csv", tmp_path / "predictions.csv"
    good, broken = (
        f"good,{row},4,8,8,1,8,1,260,10.3,1,True,g",
        f"broken,{row},four,8,8,1,8,1,260,10.3,1,True,g",
    )
    path.write_text(f"{columns}\n{broken}\n{good}\n")
    code, _ = run("validate", "--measured", str(path), "--predictions", str(out))
    assert code == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "id,metric,measured,predicted,low,high,grade,reason"
    assert len([line for line in lines if line.startswith("good,") and line.split(",")[3]]) == 2
    assert any(line.startswith("broken,") and "measured.csv:2" in line for line in lines)


def test_a_gate_that_is_not_met_exits_with_4_after_the_predictions_are_written(
    run: Run, tmp_path: Path
) -> None:
    columns = (
        "id,model_path,system,backend,backend_version,precision,mode,isl,osl,concurrency,num_gpus,tp,"
        "ttft_ms,tpot_ms"
    )
    path, out = tmp_path / "measured.csv", tmp_path / "predictions.csv"
    row = "far,deepseek-ai/DeepSeek-V3,h200_sxm,sglang,0.5.9,fp8,agg,1024,32,4,8,8,260,1000"
    path.write_text(f"{columns}\n{row}\n")
    argv = ["validate", "--measured", str(path), "--predictions", str(out), "--gate", "tpot_ms<10%"]
    code, lines = run(*argv)
    assert code == 4
    assert "tpot_ms" in lines[-1]
    assert out.exists()


def test_an_objective_that_is_missed_exits_with_3_and_names_what_binds(run: Run) -> None:
    code, lines = run("simulate", *R1, "--requests", "16", "--osl", "32", "--tpot", "0.1")
    assert code == 3
    assert "TPOT p99" in lines[-1]
    assert "binding" in lines[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ["report", "deepseek-r1-8xh200", "--model", "nothing", "--html", "OUT"],
        ["validate", "--measured", "absent.csv", "--predictions", "OUT"],
        ["kernels", "--shapes", "absent.csv", "--system", "h200_sxm", "--predictions", "OUT"],
        ["step", *R1, "--batch", "0", "--perfetto", "OUT"],
    ],
)
def test_nothing_is_left_half_written(run: Run, tmp_path: Path, argv: list[str]) -> None:
    out = tmp_path / "out"
    code, _ = run(*(str(out) if word == "OUT" else word for word in argv))
    assert code == 2
    assert list(tmp_path.iterdir()) == []


def test_an_output_in_a_missing_folder_is_refused_before_the_work(run: Run, tmp_path: Path) -> None:
    code, lines = run("report", "deepseek-r1-8xh200", "--html", str(tmp_path / "absent" / "r.html"))
    assert code == 2
    assert "folder that exists" in lines[0]


def test_init_never_replaces_a_file_unasked(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("init", str(path))[0] == 0
    path.write_text("mine")
    assert run("init", str(path))[0] == 2
    assert path.read_text() == "mine"
    assert run("init", str(path), "--force")[0] == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["graph", "deepseek-v4"], "did you mean deepseek-v3"),
        (["graph", "deepseek-r1", "--phase", "prefil"], "did you mean prefill?"),
        (["systems", "show", "h200"], "did you mean h200_sxm?"),
        (["stacks", "show", "sglangg"], "did you mean sglang?"),
        (["schema", "scenarios"], "did you mean scenario?"),
        (["audit", "Z9"], "claim must be one of"),
        (["systems", "show"], "needs at least one name"),
        (["simulate", *R1, "--concurrency", "4", "--request-rate", "1"], "not allowed with"),
    ],
)
def test_names_that_do_not_exist_are_bad_input_with_the_nearest(
    run: Run, argv: list[str], words: str
) -> None:
    code, lines = run(*argv)
    assert code == 2
    assert words in " ".join(lines)


def test_a_broken_config_json_is_refused_with_its_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"architectures": ["LlamaForCausalLM"]}')
    code, lines = run("graph", str(path))
    assert code == 2
    assert any(str(path) in line for line in lines)


def test_a_trace_that_is_missing_is_bad_input(run: Run, tmp_path: Path) -> None:
    code, lines = run("simulate", *R1, "--trace", str(tmp_path / "absent.csv"))
    assert code == 2
    assert "absent.csv" in lines[0]
