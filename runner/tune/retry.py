"""After an out-of-memory: how the next attempt is executed. The mathematics of the trial stay the same."""

from trainables.schema import ExecutionRecord


def after_out_of_memory(record: ExecutionRecord, global_batch: int) -> ExecutionRecord | None:
    """Half the micro-batch, twice the accumulation; None at the floor, where nothing can be halved."""
    if record.micro_batch <= record.smallest_micro_batch:
        return None
    micro_batch = max(-(-record.micro_batch // 2), record.smallest_micro_batch)
    return record.with_micro_batch(micro_batch, global_batch)
