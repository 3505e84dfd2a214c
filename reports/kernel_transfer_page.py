"""The section of `docs/accuracy.md` on devices that nobody measured.

`python -m reports.kernel_transfer_page` makes the study anew (some 20 minutes, with the extra `[silicon]`),
keeps it in `reports/kernel_transfer.json` and puts the section into the page. `reports.accuracy_page` takes
the kept study where the shipped constants are still those that it lent, and else makes it again.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from hardware_specs.records.errors import exit_code_of
from reports.files import write_text
from reports.page_sections import with_section
from simulator.measured.kernel_transfer import Study, input_hash, read_study, study, study_json
from simulator.measured.kernel_transfer_tables import in_a_goal, transfer_fragment

Say = Callable[[str], None]
ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "reports" / "kernel_transfer.json", ROOT / "docs" / "accuracy.md"
HEADING = "## Kernels of devices that nobody measured"


def section(say: Say) -> str:
    """The section from the kept study, made again where that is missing or of other constants."""
    kept = read_study(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else None
    return section_of(kept if kept and kept.input_hash == input_hash() else made(say))


def made(say: Say) -> Study:
    """The study, which is kept."""
    done = study(in_a_goal, say)
    write_text(KEPT, study_json(done))
    return done


def section_of(done: Study) -> str:
    """The section in markdown."""
    return f"{HEADING}\n\n{transfer_fragment(done)}"


def main(say: Say = lambda text: print(text, file=sys.stderr)) -> int:
    """Make the study and put the section into the page."""
    write_text(PAGE, with_section(PAGE.read_text(encoding="utf-8"), HEADING, section_of(made(say))))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
