from reports.page_sections import with_section

HEADING = "## Old and new"
NEW = f"{HEADING}\n\nnew\n"


def test_a_section_takes_the_place_of_its_former_self() -> None:
    page = f"# Page\n\n{HEADING}\n\nold\n\n## Next\n\ntext\n"
    assert with_section(page, HEADING, NEW) == f"# Page\n\n{HEADING}\n\nnew\n\n## Next\n\ntext\n"


def test_a_new_section_stands_at_the_end() -> None:
    assert with_section("# Page\n", HEADING, NEW) == f"# Page\n\n{NEW}"


def test_a_heading_that_only_begins_alike_is_another() -> None:
    page = f"# Page\n\n{HEADING}\n\nold\n\n{HEADING} things\n\ntext\n"
    assert with_section(page, HEADING, NEW) == f"# Page\n\n{NEW}\n{HEADING} things\n\ntext\n"
