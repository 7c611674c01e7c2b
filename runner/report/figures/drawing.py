"""What all figures share: style, colours, panels, an honest loss axis, PNG bytes."""

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from runner.report.figures.theme import themed

FONT = "DejaVu Sans"  # ships inside matplotlib
# Okabe and Ito (2008), Color Universal Design: distinct with every common colour vision. Yellow is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK = "#222222"
GREY = "#666666"
# Both run through the same points: distinguished by dots and marks, whatever the colour vision or the printer.
MEAN_LINE: Any = {"color": INK, "linestyle": (0, (1, 1.6)), "linewidth": 1.4, "marker": "_", "ms": 20, "mew": 2.2}
LAW_LINE: Any = {"color": INK, "linestyle": "-", "linewidth": 2.4}
MAX_PANELS = 6  # in one figure; more would be unreadable
DPI = 150
NARROW_INCH, WIDE_INCH = 7.2, 10.0  # the page shows both at one scale

# Set in full, so that a matplotlibrc of the user's cannot change a report.
_STYLE: Any = {
    "font.family": FONT,
    "font.size": 10,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "savefig.bbox": None,
    "svg.fonttype": "path",
    "svg.hashsalt": "isotherm",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
}
# A loss axis is never shorter than this, so that differences of a few thousandths of a nat do not look like mountains.
MIN_SPAN_NATS = 0.05
# Losses further above the prior than this many times the gain below it (and than the floor) are shown at the edge.
EDGE_FACTOR = 3.0
EDGE_FLOOR_NATS = 0.25


class Picture(bytes):
    """A figure as PNG, and as SVG in the reader's theme."""

    svg: str

    def __new__(cls, png: bytes, svg: str) -> Self:
        """Both forms of one figure."""
        picture = super().__new__(cls, png)
        picture.svg = svg
        return picture


@dataclass(frozen=True)
class Plot:
    """A finished figure.

    Attributes:
        name: stem of its file.
        title: heading in the report.
        alt: what it shows, for readers who cannot see it.
        caption: what its marks mean and what they do not cover, one sentence or more each.
        png: the picture, for files and Markdown; its ``svg`` is in the HTML page.
        wide: whether it has panels side by side.
    """

    name: str
    title: str
    alt: str
    caption: tuple[str, ...]
    png: Picture
    wide: bool


def plain(text: str, limit: int = 70) -> str:
    """Text from data or configs that matplotlib shows as it is: no mathematics, no missing glyphs, not too long."""
    known = _glyphs()
    shown = "".join(char if ord(char) in known else "?" for char in text)
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return shown.replace("$", r"\$")


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made and saved in the report's style."""
    return mpl.rc_context(_STYLE)


def canvas(width_inch: float, height_inch: float) -> Figure:
    """An empty figure that lays its panels out by itself."""
    figure = Figure(figsize=(width_inch, height_inch), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(n: int, *, one_loss_axis: bool, y_label: str = "validation loss (nats)") -> tuple[Figure, list[Axes]]:
    """A figure with n panels, at most two per row, with one y axis for all or one each."""
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = canvas(NARROW_INCH if columns == 1 else WIDE_INCH, 1.2 + 3.4 * rows)
    axes = figure.subplots(rows, columns, sharey=one_loss_axis, squeeze=False).ravel()
    for unused in axes[n:]:
        unused.remove()
    for axis in axes[:n:columns]:
        axis.set_ylabel(y_label)
    return figure, list(axes[:n])


def loss_range(losses: Iterable[float], priors: Iterable[float]) -> tuple[float, float]:
    """Limits of a loss axis that holds the prior and all losses but those far above it.

    An axis that only spans the losses would turn noise into a slope; one that reaches up to a hopeless outlier would
    turn a slope into noise.

    Args:
        losses: losses and ends of their intervals, in nats; none where only the prior is known.
        priors: losses of the prior, in nats.
    """
    values, prior = list(losses), list(priors)
    values += prior
    low = min(values, default=0.0)
    if prior:
        edge = max(prior) + max(EDGE_FLOOR_NATS, EDGE_FACTOR * (max(prior) - low))
        values = [value for value in values if value <= edge]
    high = max(values, default=0.0)
    short = max(MIN_SPAN_NATS - (high - low), 0.0) / 2
    margin = 0.06 * max(high - low, MIN_SPAN_NATS)
    return low - short - margin, high + short + margin


def prior_line(axis: Axes, priors: Iterable[float]) -> None:
    """The loss of the prior, as a dashed line for each distinct value."""
    for value in sorted(set(priors)):
        axis.axhline(value, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=2)


def prior_handle() -> Line2D:
    """Legend entry of the prior's line."""
    return Line2D([], [], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label="loss of the prior")


def finish(figure: Figure, title: str, handles: Sequence[Artist], legend_title: str = "") -> Picture:
    """Add title and legend, if there is anything to explain; return the picture."""
    figure.suptitle(plain(title, 90), x=0.01, ha="left", fontsize=11, fontweight="bold")
    columns = 3 if len(figure.axes) == 1 else 4
    if handles:
        figure.legend(
            handles=list(handles), title=legend_title, loc="outside lower center", ncols=min(len(handles), columns)
        )
    if (engine := figure.get_layout_engine()) is not None:  # once for both forms, not by each of them
        engine.execute(figure)
        figure.set_layout_engine(None)
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(png.getvalue(), themed(svg.getvalue()))
