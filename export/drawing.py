"""Plots as SVG text: the same figures give the same bytes, with no date and no font or picture from elsewhere."""

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes


def svg(title: str, drawings: Sequence[Callable[[Axes], None]]) -> str:
    """One picture with a plot for each drawing, side by side.

    The ids inside derive from the title and what is drawn, so plots on one page do not take each other's clip paths.
    """
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 9}):
        figure, places = plt.subplots(
            1, len(drawings), figsize=(5.2 * len(drawings), 3.8), layout="constrained", squeeze=False
        )
        figure.suptitle(title)
        for draw, axes in zip(drawings, places[0], strict=True):
            draw(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        plt.close(figure)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
