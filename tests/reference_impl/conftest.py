from importlib.util import find_spec

import pytest

#: nothing here can be imported without the reference extra
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def oracle():
    from parity import make_oracle

    return make_oracle()
