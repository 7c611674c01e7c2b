"""What Ray needs in order to start, looked at without starting it."""

import socket
from collections.abc import Iterator
from pathlib import Path

from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.host.footprint import LONGEST_TEMP

LOOPBACK = "127.0.0.1"
LEAST_PORTS = 1000  # a worker takes a few ports of its own
WHY_TOKEN = "anyone who can reach Ray's ports can run code as this user"


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Look at ports, paths and the token."""
    yield _ports(place)
    yield _temp(place)
    yield _token(place)
    if place.ray.address and not place.cluster:
        yield Diagnosis(
            check="Ray's address",
            level="warn",
            what=f"RAY_ADDRESS is {place.ray.address}, and a sweep does not follow it",
            why="a sweep runs on this host unless a cluster is named on the command line",
            fix=f"isotherm sweep SWEEP --address {place.ray.address}",
        )


def _ports(place: HostContext) -> Diagnosis:
    try:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            probe.listen()
    except OSError as error:
        return Diagnosis(
            check="Ray's ports",
            level="error",
            what=f"no port can be opened on {LOOPBACK}: {error.strerror or error}",
            why="Ray's processes talk to each other there",
            fix="ip link set lo up",
        )
    try:
        low, high = map(int, (place.root / "proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return ok("Ray's ports", f"ports can be opened on {LOOPBACK}")
    if high - low >= LEAST_PORTS:
        return ok("Ray's ports", f"ports can be opened on {LOOPBACK}, from {low} to {high}")
    return Diagnosis(
        check="Ray's ports",
        level="warn",
        what=f"the system hands out only the {high - low} ports from {low} to {high}",
        why="each worker and each connection takes some",
        fix="sysctl net.ipv4.ip_local_port_range='32768 60999'",
    )


def _temp(place: HostContext) -> Diagnosis:
    given = place.ray.tmpdir
    if given is None:
        return ok("Ray's folder", "a short one of the sweep's own")
    if len(str(given)) > LONGEST_TEMP:
        return Diagnosis(
            check="Ray's folder",
            level="error",
            what=f"RAY_TMPDIR has {len(str(given))} characters ({given})",
            why="the paths of Ray's sockets would be longer than the system allows",
            fix=f"choose one with at most {LONGEST_TEMP} characters, or unset RAY_TMPDIR",
        )
    return ok("Ray's folder", f"{given} (RAY_TMPDIR)")


def _token(place: HostContext) -> Diagnosis:
    given = place.ray
    if given.auth_mode and given.auth_mode.lower() != "token":
        return Diagnosis(
            check="Ray's token",
            level="warn",
            what=f"RAY_AUTH_MODE is {given.auth_mode}: Ray runs without authentication",
            why=WHY_TOKEN,
            fix="unset RAY_AUTH_MODE",
        )
    if given.auth_token is None and given.auth_token_path is not None:
        return _token_file(given.auth_token_path)
    return ok("Ray's token", "from RAY_AUTH_TOKEN" if given.auth_token else "made for each sweep, kept in memory")


def _token_file(path: Path) -> Diagnosis:
    try:
        empty, mode = not path.read_text().strip(), path.stat().st_mode
    except OSError as error:
        empty, mode, reason = True, 0, error.strerror or str(error)
    else:
        reason = "it is empty"
    if empty:
        return Diagnosis(
            check="Ray's token",
            level="error",
            what=f"RAY_AUTH_TOKEN_PATH is {path}: {reason}",
            why="Ray does not start without its token",
            fix=f"umask 077; openssl rand -hex 32 > '{path}'; or unset RAY_AUTH_TOKEN_PATH",
        )
    if mode & 0o077:
        return Diagnosis(
            check="Ray's token",
            level="warn",
            what=f"{path} can be read by others (mode {mode & 0o777:o})",
            why=WHY_TOKEN,
            fix=f"chmod 600 '{path}'",
        )
    return ok("Ray's token", f"from {path}")
