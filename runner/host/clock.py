"""The time of day of records: the wall clock as this process found it, carried on by a clock that is never set."""

import time
from datetime import UTC, datetime

# Unlike the monotonic clock it goes on while the host sleeps; Linux has it.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_ZERO_S = time.time() - time.clock_gettime(_STEADY)


def now() -> datetime:
    """Now, in UTC. Where the host's clock is set meanwhile, this process's times stay comparable with each other."""
    return datetime.fromtimestamp(_ZERO_S + time.clock_gettime(_STEADY), UTC)
