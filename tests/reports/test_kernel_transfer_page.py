import pytest

from reports import kernel_transfer_page
from reports.kernel_transfer_page import HEADING, KEPT, PAGE, section_of
from simulator.measured.kernel_transfer import Study, read_study


def test_the_page_has_the_section_of_the_kept_study() -> None:
    kept = read_study(KEPT.read_text(encoding="utf-8"))
    assert section_of(kept).rstrip() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("kept_hash", "remade"), [("now", False), ("before", True)])
def test_a_study_of_other_constants_is_made_again(
    kept_hash: str, remade: bool, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(f'{{"input_hash": "{kept_hash}", "scores": []}}')
    calls = []
    monkeypatch.setattr(kernel_transfer_page, "KEPT", kept)
    monkeypatch.setattr(kernel_transfer_page, "input_hash", lambda: "now")
    monkeypatch.setattr(kernel_transfer_page, "study", lambda *given: calls.append(given) or Study("now", ()))
    assert kernel_transfer_page.section(str).startswith(HEADING)
    assert bool(calls) is remade
    assert '"now"' in kept.read_text()
