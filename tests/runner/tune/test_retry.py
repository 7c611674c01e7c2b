"""After an out-of-memory."""

from hypothesis import given
from hypothesis import strategies as st

from runner.tune.retry import after_out_of_memory
from trainables.schema import ExecutionRecord, Measured


def record(micro_batch: int, accumulation: int) -> ExecutionRecord:
    return ExecutionRecord(
        micro_batch=micro_batch,
        accumulation=accumulation,
        threads=1,
        device="cpu",
        checkpoint_interval_s=1,
        measured=Measured(peak_bytes=1, seconds_per_step=1),
    )


def test_all_ranks_take_half() -> None:
    now = after_out_of_memory(record(32, 2).model_copy(update={"devices": 4}), 256)
    assert now is not None
    assert (now.micro_batch, now.accumulation, now.devices) == (16, 4, 4)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_halved_down_to_one_and_the_batch_is_covered(batch: int, micro_batch: int) -> None:
    micro_batch = min(micro_batch, batch)
    now: ExecutionRecord | None = record(micro_batch, -(-batch // micro_batch))
    steps = 0
    while now is not None:
        assert (now.accumulation - 1) * now.micro_batch < batch <= now.accumulation * now.micro_batch
        last, now = now, after_out_of_memory(now, batch)
        assert now is None or now.micro_batch == -(-last.micro_batch // 2)
        steps += 1
    assert last.micro_batch == 1
    assert steps <= micro_batch.bit_length() + 1


def test_powers_of_two_double_the_accumulation() -> None:
    halved = after_out_of_memory(record(64, 2), 128)
    assert halved is not None
    assert (halved.micro_batch, halved.accumulation, halved.measured) == (32, 4, None)


def test_a_batch_that_is_one_piece_is_not_halved() -> None:
    assert after_out_of_memory(record(128, 1).model_copy(update={"smallest_micro_batch": 128}), 128) is None
