from importlib.util import find_spec

import pytest

#: nothing here can be imported without the reference extra
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def model():
    from small import small_model

    return small_model()


@pytest.fixture(scope="session")
def shallow():
    """One layer of each kind, for what does not depend on how many there are."""
    from small import shallow_model

    return shallow_model()
