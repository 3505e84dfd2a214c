import numpy as np

from model_graphs.runs.records import RequestTable


def table() -> RequestTable:
    """Two requests: 0 s to 2.5 s with four tokens, 1 s to 1.4 s with one."""
    return RequestTable(
        arrival_s=np.array([0.0, 1.0]),
        first_token_s=np.array([1.0, 1.4]),
        finish_s=np.array([2.5, 1.4]),
        input_tokens=np.array([100, 50]),
        output_tokens=np.array([4, 1]),
        queue_s=np.array([0.5, 0.0]),
    )


def test_ttft_is_first_token_minus_request_sent() -> None:
    np.testing.assert_allclose(table().ttft_s, [1.0, 0.4])


def test_tpot_leaves_out_the_first_token_and_requests_of_one_token_have_none() -> None:
    np.testing.assert_allclose(table().tpot_s, [0.5, np.nan])  # (2.5 - 1.0) / 3


def test_e2e_is_last_token_minus_request_sent() -> None:
    np.testing.assert_allclose(table().e2e_s, [2.5, 0.4])
