"""Figures as SVG that follow the reader's theme: colours become variables with a value for light and one for dark."""

import re

from matplotlib.colors import to_hex, to_rgb

DARK_PAPER, MIN_CONTRAST = "#16181b", 3.0  # WCAG 2.2, success criterion 1.4.11: graphical objects
# What drawings use for paper, text and lines, and the same in the dark theme of the page.
_ROLES = {
    "#ffffff": DARK_PAPER,
    "#222222": "#e6e6e6",
    "#444444": "#c4c7cb",
    "#666666": "#a9adb3",
    "#e4e4e4": "#33373c",
    "#bbbbbb": "#5a6068",
    "#f5f5f5": "#24282d",
}
# Text on a coloured field keeps its colour, as the field does.
INK_ON_COLOUR, WHITE_ON_COLOUR = "#222221", "#fffffe"
_FIXED = {INK_ON_COLOUR, WHITE_ON_COLOUR}
_COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}(?=[;\"])")
_FIELD = re.compile(r"<g id=\"field[^>]*>.*?</g>", re.DOTALL)  # coloured fields, whatever their contrast


def themed(svg: str) -> str:
    """An SVG of matplotlib's with variables for colours; on dark paper what would be too faint is lightened."""
    found = sorted({colour for colour in _COLOUR.findall(_FIELD.sub("", svg)) if colour not in _FIXED})
    if not found:
        return svg
    light = "".join(f"--c{colour[1:]}:{colour};" for colour in found)
    dark = "".join(f"--c{colour[1:]}:{on_dark(colour)};" for colour in found)
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    fields: list[str] = []

    def aside(match: re.Match[str]) -> str:
        fields.append(match[0])
        return f"<field {len(fields) - 1}>"

    kept = _FIELD.sub(aside, svg)
    coloured = _COLOUR.sub(lambda match: match[0] if match[0] in _FIXED else f"var(--c{match[0][1:]})", kept)
    restored = re.sub(r"<field (\d+)>", lambda match: fields[int(match[1])], coloured)
    return re.sub(r"(<svg[^>]*>)", lambda match: match[1] + style, restored, count=1)


def on_dark(colour: str) -> str:
    """A colour for dark paper: its role's, or itself, lightened as far as it takes to be seen."""
    if colour in _ROLES:
        return _ROLES[colour]
    parts = to_rgb(colour)
    for step in range(20):
        red, green, blue = (part + (1 - part) * step / 20 for part in parts)
        if _contrast((red, green, blue)) >= MIN_CONTRAST:
            return str(to_hex((red, green, blue)))
    return "#ffffff"


def _contrast(parts: tuple[float, ...]) -> float:
    return (_luminance(parts) + 0.05) / (_luminance(to_rgb(DARK_PAPER)) + 0.05)


def _luminance(parts: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
