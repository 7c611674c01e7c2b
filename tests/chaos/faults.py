"""What can go wrong while a sweep runs, done for real: signals to real processes, a real full disk, real servers."""

from tests.chaos.fault import Fault
from tests.chaos.files import ChangedLedger, FullDisk, RemovedFlag, Tear, Unreadable
from tests.chaos.processes import (
    ClockJumps,
    ClosedPipe,
    ClosedTerminal,
    Kill,
    KillSearch,
    LostGcs,
    LostGovernor,
    LostRay,
    LostRaylet,
    LostTracker,
    Signal,
    SignalToAll,
    Stall,
)
from tests.chaos.servers import MlflowDies, MlflowIsCutOff, StorageDies

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(Kill, KillSearch, Signal, SignalToAll, Stall, Tear, Unreadable, ChangedLedger, RemovedFlag, LostRay),
        *(LostRaylet, LostGcs, LostGovernor, LostTracker, ClosedTerminal, ClosedPipe),
        *(ClockJumps, FullDisk, MlflowDies, MlflowIsCutOff, StorageDies),
    )
}
