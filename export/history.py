"""How training went, for the report and the card."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from matplotlib.axes import Axes

from export.document import Section, Table
from export.drawing import svg
from export.objectives import Figures
from export.training import Epoch

_COLUMNS = tuple(msgspec.structs.fields(Figures))


def history_section(members: Mapping[str, Sequence[Epoch]]) -> Section:
    """Every member's epochs as a table, and their curves."""
    tables, plots = [], []
    for name, epochs in members.items():
        measured = [each.name for each in _COLUMNS if getattr(epochs[0].validation, each.name) is not None]
        heading = (
            "Epoch",
            "Seconds",
            "Weights",
            "Training loss",
            *measured,
            "Stressed loss",
            f"Stressed {measured[1]}",
        )
        tables.append(Table((f"{name}: {heading[0]}", *heading[1:]), tuple(_row(each, measured) for each in epochs)))
        drawings = (partial(_losses, epochs=epochs), partial(_figures, epochs=epochs, measured=measured))
        plots.append(svg(f"Training of {name}", drawings))
    return Section(
        title="Training",
        paragraphs=(
            "Measured after each epoch with the averaged weights, on the validation split as it is; stressed: under "
            "one fixed draw of the augmentation, which decides the epoch that is kept. Decisions here are at a "
            "probability of 0.5 before calibration.",
        ),
        tables=tuple(tables),
        plots=tuple(plots),
    )


def _row(epoch: Epoch, measured: Sequence[str]) -> tuple[str, ...]:
    return (
        str(epoch.number),
        f"{epoch.seconds:.0f}",
        "rounded" if epoch.quantized else "exact",
        f"{epoch.training_loss:.4f}",
        *(f"{getattr(epoch.validation, name):.4f}" for name in measured),
        f"{epoch.stressed.loss:.4f}",
        f"{getattr(epoch.stressed, measured[1]):.4f}",
    )


def _losses(axes: Axes, epochs: Sequence[Epoch]) -> None:
    numbers = [each.number for each in epochs]
    axes.plot(numbers, [each.training_loss for each in epochs], "o-", label="training")
    axes.plot(numbers, [each.validation.loss for each in epochs], "s-", label="validation")
    axes.plot(numbers, [each.stressed.loss for each in epochs], "^-", label="stressed")
    _mark_rounded(axes, epochs)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()


def _figures(axes: Axes, epochs: Sequence[Epoch], measured: Sequence[str]) -> None:
    numbers = [each.number for each in epochs]
    for name, marker in zip(measured[1:], "os^Dv", strict=False):
        axes.plot(numbers, [getattr(each.validation, name) for each in epochs], f"{marker}-", label=name)
    _mark_rounded(axes, epochs)
    axes.set(xlabel="epoch", ylabel="validation")
    axes.legend(loc="lower right")


def _mark_rounded(axes: Axes, epochs: Sequence[Epoch]) -> None:
    first = next((each.number for each in epochs if each.quantized), None)
    if first is not None:
        axes.axvspan(first - 0.5, epochs[-1].number + 0.5, color="#eef1f5", zorder=0)
