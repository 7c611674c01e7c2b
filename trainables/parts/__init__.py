"""Parts of one's own: what is registered under a name and chosen by it in a sweep file.

Each kind of part (architecture, ...) has one `Registry`, defined where the kind's interface is. What ships, what an
installed distribution brings (entry points) and what a plugin file holds are registered in the same way.
"""

from trainables.parts.plugins import Plugin
from trainables.parts.registry import Part, PartConfig, Registry
from trainables.parts.source import Source

__all__ = ["Part", "PartConfig", "Plugin", "Registry", "Source"]
