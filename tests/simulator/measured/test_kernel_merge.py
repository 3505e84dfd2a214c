from simulator.measured.kernel_cases import all_cases
from simulator.measured.kernel_merge import key_of, merged, missing

CASES = [case for case in all_cases() if case.device_key == "h200_sxm"][:4]


def entry(index: int, width: float = 0.1) -> dict[str, object]:
    family, dtype, kernel = key_of(CASES[index])
    return {"family": family, "dtype": dtype, "kernel": kernel, "log_half_width": width}


def test_only_cases_without_an_entry_are_missing() -> None:
    assert [key_of(case) for case in missing(CASES, [entry(0), entry(2)])] == [
        key_of(CASES[1]),
        key_of(CASES[3]),
    ]


def test_entries_come_in_the_order_of_the_cases_and_those_of_none_stay_last() -> None:
    extra = {"family": "bandwidth", "dtype": "any", "kernel": "elementwise"}
    found = merged(CASES, [extra, entry(3), entry(0)])
    assert found == [entry(0), entry(3), extra]


def test_a_new_entry_takes_the_place_of_the_old_one() -> None:
    assert merged(CASES, [entry(1, 0.5), entry(1, 0.2)]) == [entry(1, 0.2)]
