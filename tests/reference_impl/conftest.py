import pytest

pytest.importorskip("torch", reason="the reference extra is not installed")


@pytest.fixture(scope="session")
def oracle():
    from parity import make_oracle

    return make_oracle()
