import time

from trainables.training.gate import Action, NullGate


def test_the_null_gate_is_always_open():
    gate = NullGate()
    assert gate.check() is Action.RUN
    assert gate.wait(5.0) == 0.0


def test_every_action_has_a_name_of_its_own():
    assert {action.value for action in Action} == {"run", "throttle", "hold", "release", "stop", "drain"}


def test_a_check_of_the_null_gate_costs_under_a_microsecond():
    gate = NullGate()
    fastest = min(_seconds(gate) for _ in range(5))
    assert fastest / 10_000 < 1e-6


def _seconds(gate):
    started = time.process_time()
    for _ in range(10_000):
        gate.check()
    return time.process_time() - started
