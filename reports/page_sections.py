"""Sections of a markdown page that are made apart from each other."""


def with_section(page: str, heading: str, text: str) -> str:
    """The page with this section in place of the one under its heading, or at its end.

    `text` begins with the heading.
    """
    before, _, rest = page.partition(f"{heading}\n")
    following = rest.find("\n## ")
    after = rest[following:] if following >= 0 else ""
    return f"{before.rstrip()}\n\n{text.rstrip()}\n{after}"
