"""The registry of any kind of part: names, versions, where a part comes from, entry points."""

import logging
import sys
import textwrap

import pytest
from pydantic import Field

from trainables.errors import ConfigError
from trainables.parts import PartConfig, Registry

GROUP = "isotherm.test_things"


@pytest.fixture
def things():
    return Registry("thing", group=GROUP, reserved=("kind",), check=lambda one: "" if callable(one) else "not callable")


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs modules with entry points of the group, as a distribution of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\nany = {name}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


class Keys(PartConfig):
    times: int = Field(2, ge=1)


def test_a_function_with_a_config_is_a_part(things):
    @things.register("double", version=3, config=Keys)
    def double(value, config):
        return config.times * value

    part = things.get("double")
    assert part.target(5, part.configure({})) == 10
    assert (part.kind, part.name, part.version, part.config_type) == ("thing", "double", 3, Keys)
    assert len(part.source.sha256) == 64
    assert [one.name for one in things] == ["double"]
    with pytest.raises(ConfigError, match=r"task\.times: .*greater than or equal to 1"):
        part.configure({"times": 0}, "task")


@pytest.mark.parametrize(
    ("name", "version", "config", "target", "expected"),
    [
        ("Upper", 1, None, len, "a name is lower-case"),
        ("one", 0, None, len, "its version is 0"),
        ("one", 1, int, len, "not a subclass of isotherm.PartConfig"),
        ("one", 1, type("K", (PartConfig,), {"__annotations__": {"kind": str}}), len, "must not have the key kind"),
        ("one", 1, None, 5, "not callable"),
    ],
)
def test_what_is_no_part_of_this_kind_is_refused(things, name, version, config, target, expected):
    with pytest.raises(ConfigError, match=expected):
        things.register(name, version=version, config=config)(target)
    assert not list(things)


def test_an_unknown_name_shows_what_there_is(things):
    with pytest.raises(ConfigError, match=r"thing: no thing 'x' is registered\n.*known: none"):
        things.get("x")
    things.register("apple")(len)
    with pytest.raises(ConfigError, match=r"task\.kind: no thing 'aple'.*\n.*did you mean 'apple'\?"):
        things.get("aple", "task.kind")


def test_an_installed_distribution_brings_parts_by_its_entry_points(things, distribution, monkeypatch):
    home = type(sys)("home_of_things")  # what `isotherm` is to a real distribution
    home.things = things
    monkeypatch.setitem(sys.modules, "home_of_things", home)
    code = """
        from home_of_things import things

        @things.register("own", version=4)
        def own():
            pass
    """
    distribution("brings_things", code)
    part = things.get("own")
    assert (part.version, part.source.origin) == (4, "brings_things 1.2")


def test_a_distribution_that_cannot_be_loaded_concerns_only_who_asks_for_its_parts(things, distribution, caplog):
    distribution("broken_things", "raise RuntimeError('no luck')\n")
    things.register("apple")(len)
    with caplog.at_level(logging.WARNING):
        assert things.get("apple").target is len
    assert "any of broken-things 1.2" in caplog.text.replace("_", "-")
    with pytest.raises(ConfigError, match="no luck"):
        things.get("theirs")
