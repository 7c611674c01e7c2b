"""A conformance kit: holds a data source against what datasets rely on."""

from typing import Any

from trainables.data import sources
from trainables.data.ohlcv import load_sources
from trainables.data.source_registry import SOURCES
from trainables.errors import DataError
from trainables.schema import DataSpec


def check_source(
    part: str | type[Any], argument: str = "", columns: dict[str, str] | None = None, **config: Any
) -> None:
    """Return if a data source keeps its contract; it is read twice.

    Checked: bars that pass all checks of a dataset; the same bars when read again; a digest, where there is one, of
    what was read; a name for the asset.

    Args:
        part: the registered class, or its name.
        argument: what a sweep file would write after the source's name.
        columns: as `data.columns` of a sweep file.
        config: keys of the source.

    Raises:
        AssertionError: it does not; the message says what was expected.
        ConfigError: it cannot be configured.
    """
    found = SOURCES.find(part)
    asked = f"{found.name}:{argument}" if argument else {"name": found.name, **config}
    spec = DataSpec.model_validate({"source": asked, "columns": columns or {}})
    (text,) = spec.source
    try:
        first, second = load_sources(spec), load_sources(spec)
    except DataError as error:
        raise AssertionError(str(error)) from error
    asset = sources.asset_name(text)
    assert asset.strip(), "the asset needs a name"
    assert first.frames[asset].equals(second.frames[asset]), "read again, a source must give the same bars"
    digest = sources.digest(text)
    assert digest in (None, first.source_sha256[text]), "digest must be the sha256 of what read gives"
