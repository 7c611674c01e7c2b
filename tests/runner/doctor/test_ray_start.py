"""What Ray needs: paths, the token's file, the range of ports."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.config.settings import RayEnvironment
from runner.doctor import ray_start


def test_by_default_all_is_well(place: Any) -> None:
    assert [finding.level for finding in ray_start.check(place)] == ["ok", "ok", "ok"]


def test_a_folder_with_a_long_name(one: Any) -> None:
    fits, too_long = Path("/" + 18 * "x"), Path("/" + 19 * "x")
    assert one(ray_start.check, "Ray's folder", ray=RayEnvironment(tmpdir=fits)).level == "ok"
    found = one(ray_start.check, "Ray's folder", ray=RayEnvironment(tmpdir=too_long))
    assert found.level == "error"
    assert "20 characters" in found.what
    assert "at most 19" in found.fix


def test_tokens(one: Any, tmp_path: Path) -> None:
    def token(**values: Any) -> Any:
        return one(ray_start.check, "Ray's token", ray=RayEnvironment(**values))

    path = tmp_path / "token"
    assert token(auth_token_path=path).level == "error"
    path.write_text("\n")
    assert "it is empty" in token(auth_token_path=path).what
    path.write_text("secret\n")
    path.chmod(0o644)
    assert token(auth_token_path=path).level == "warn"
    path.chmod(0o600)
    assert token(auth_token_path=path).level == "ok"
    assert token(auth_mode="disabled").level == "warn"
    found = token(auth_token="hush")
    assert found.level == "ok"
    assert "hush" not in found.what


def test_few_ports(place: Any, one: Any) -> None:
    path = place.root / "proc/sys/net/ipv4/ip_local_port_range"
    path.parent.mkdir(parents=True)
    path.write_text("50000\t50100\n")
    assert one(ray_start.check, "Ray's ports").level == "warn"
    path.write_text("32768\t60999\n")
    assert one(ray_start.check, "Ray's ports").level == "ok"


def test_an_address_that_is_not_followed(one: Any) -> None:
    found = one(ray_start.check, "Ray's address", ray=RayEnvironment(address="10.0.0.1:6379"))
    assert "--address 10.0.0.1:6379" in found.fix


def test_on_a_cluster_that_was_named_the_address_is_not_at_issue(place: Any) -> None:
    """Ray sets the variable in every job that it runs."""
    on_cluster = replace(place, ray=RayEnvironment(address="10.0.0.1:6379"), cluster=True)
    assert not [found for found in ray_start.check(on_cluster) if found.check == "Ray's address"]


def test_the_variables_are_read_from_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setitem(os.environ, "RAY_TMPDIR", "/scratch")
    assert RayEnvironment().tmpdir == Path("/scratch")
