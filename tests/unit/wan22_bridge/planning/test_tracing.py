"""Tests of the tracing of tensor memory on the meta device."""

import torch

from wan22_bridge.planning.tracing import trace_peak_bytes

WEIGHT = torch.empty(64, 64, device="meta")
INPUT = torch.empty(16, 64, device="meta")
RESULT_BYTES = 16 * 64 * 4


def test_each_repetition_of_an_operator_is_counted_while_its_result_lives() -> None:
    def keep_all() -> list[torch.Tensor]:
        return [INPUT @ WEIGHT for _ in range(5)]

    def keep_the_last() -> torch.Tensor:
        result = INPUT
        for _ in range(5):
            result = result @ WEIGHT
        return result

    assert trace_peak_bytes(keep_all, [INPUT, WEIGHT]) == 5 * RESULT_BYTES
    assert trace_peak_bytes(keep_the_last, [INPUT, WEIGHT]) == 2 * RESULT_BYTES


def test_views_and_changes_in_place_take_no_memory_of_their_own() -> None:
    def change() -> None:
        for _ in range(3):
            INPUT.view(-1).add_(1)

    assert trace_peak_bytes(change, [INPUT]) == 0


def test_an_operator_on_another_layout_or_with_another_number_has_a_result_of_its_own() -> None:
    whole = torch.empty(1000, dtype=torch.int32, device="meta")
    results: list[torch.Tensor] = []

    def compute() -> None:
        results.extend([whole * 1, whole * 1.0, whole.double() * 1, whole[:10] * 1, whole.view(10, 100).t() * 1])

    trace_peak_bytes(compute, [whole])

    assert [(result.shape, result.dtype) for result in results] == [
        ((1000,), torch.int32),
        ((1000,), torch.float32),
        ((1000,), torch.float64),
        ((10,), torch.int32),
        ((100, 10), torch.int32),
    ]
    assert results[4].stride() == (1, 100)
