"""The terminal, where text is shown as it is: nothing that a name, a path or a reason holds is taken for markup.

Modules take `Console` from here and not from rich, and give styles by ``style=`` or as `rich.text.Text`.
"""

from typing import Any

from rich.console import Console as RichConsole
from rich.text import Text

# Control characters of text from elsewhere would move the cursor, set a window's title or hide what was printed.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """Text with control characters and what cannot be encoded (names of files that are not UTF-8) written out."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


class Console(RichConsole):
    """A rich console without console markup, emoji codes and highlighting.

    Args:
        options: of `rich.console.Console`, such as ``stderr`` or ``width``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string, whether printed or in a table's cell or title, as it is."""
        return super().render_str(visible(text), **options)
