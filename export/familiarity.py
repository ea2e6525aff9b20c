"""The gate for unfamiliar images: what the training's embeddings are like, from which distance on an image is refused.

`edge.inference.familiarity` is the reader and measures every distance, here too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.inference.bundle import Familiarity, Interval, MeasuredRefusal
from edge.inference.familiarity import Statistics, distance, strangeness
from export.document import Section, Table
from export.drawing import svg
from export.evaluation.figures import proportion_interval

_OTHER_FRONTAL_SHARE = 0.99
_WITHOUT_OTHERS = 2.0
_BINS = 60


class FamiliarityError(ScansideError):
    """Embeddings from which no gate can be made; the message is one line."""


def fit(embeddings: NDArray[np.floating]) -> Statistics:
    """Mean and whitening of the embeddings [N, F] of training images.

    Each feature is scaled to its own spread first: the covariance is drawn towards equal variances, which says
    something only where the features have one unit.

    Raises:
        FamiliarityError: Fewer than two embeddings, one that is no finite number, or all of them the same.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if len(rows) < 2 or not np.isfinite(rows).all() or not np.ptp(rows, axis=0).any():
        raise FamiliarityError(
            f"{len(rows)} embeddings of {rows.shape[-1]} features: they must be two or more, finite and not all the "
            f"same; look at the training"
        )
    spread = rows.std(axis=0)
    spread[spread == 0.0] = spread.mean()
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk_covariance(rows / spread))) / spread
    mean, whitening = (array.astype(np.float32).astype(np.float64) for array in (rows.mean(axis=0), whitening))
    return Statistics(mean, whitening)


def shrunk_covariance(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance [F, F] of rows [N, F], drawn towards a multiple of the identity as far as the rows are too few.

    The estimator of Ledoit and Wolf, Journal of Multivariate Analysis 88 (2004) 365, section 3.2.
    """
    count, features = rows.shape
    centred = rows - rows.mean(axis=0)
    sample = centred.T @ centred / count
    scale = np.trace(sample) / features
    off = np.sum((sample - scale * np.eye(features)) ** 2)
    # The mean squared distance of x x' from the sample covariance, without building x x' for each row.
    noise = (np.sum(np.sum(centred**2, axis=1) ** 2) / count - np.sum(sample**2)) / count
    share = min(1.0, noise / off) if off > 0 else 1.0
    shrunk: NDArray[np.float64] = share * scale * np.eye(features) + (1.0 - share) * sample
    return shrunk


def save(path: Path, statistics: Statistics) -> None:
    """Writes ``familiarity.npz``: ``mean`` float32 (F,) and ``whitening`` float32 (F, F)."""
    np.savez_compressed(
        path, mean=statistics.mean.astype(np.float32), whitening=statistics.whitening.astype(np.float32)
    )


def distances(embeddings: NDArray[np.float32], statistics: Statistics) -> NDArray[np.float64]:
    """The distances [N] of embeddings [N, F], as the device measures them."""
    return np.array([distance(row, statistics) for row in embeddings])


def choose(
    validation: NDArray[np.float64], refused_share: float, other_frontal: NDArray[np.float64] | None
) -> Familiarity:
    """Where the two limits lie.

    Args:
        validation: Distances of the validation images, those of all INT8 engines together.
        refused_share: Share of them that may lie at or beyond the first limit.
        other_frontal: Distances of frontal chest radiographs unlike those of the training; 99 % of them lie below the
            second limit, which is twice the first one where there are none.
    """
    unfamiliar = float(np.quantile(validation, 1.0 - refused_share, method="higher"))
    if refused_share * len(validation) < 1.0:
        unfamiliar = float(np.nextafter(unfamiliar, np.inf))  # not even the farthest one may be refused
    if other_frontal is None:
        return Familiarity(unfamiliar_from=unfamiliar, not_frontal_chest_from=_WITHOUT_OTHERS * unfamiliar)
    other = float(np.quantile(other_frontal, _OTHER_FRONTAL_SHARE, method="higher"))
    return Familiarity(unfamiliar_from=unfamiliar, not_frontal_chest_from=max(unfamiliar, other))


def measure(
    found: NDArray[np.float64], limits: Familiarity, *, engine: str, dataset: str, wanted: bool
) -> MeasuredRefusal:
    """How many of some images at these distances are refused; ``wanted`` where each refusal is right."""
    refused = sum(strangeness(each, limits) is not None for each in found)
    return MeasuredRefusal(
        engine=engine,
        dataset=dataset,
        images=len(found),
        wanted=wanted,
        refused=proportion_interval(refused, len(found)),
    )


def familiarity_section(
    limits: Familiarity, measured: Sequence[MeasuredRefusal], found: Mapping[str, NDArray[np.float64]]
) -> Section:
    """What the gate refuses, for the card and the report.

    Args:
        limits: The gate.
        measured: The rows of the table.
        found: Distances by the name of their images, for the plot.
    """
    return Section(
        title="Unfamiliar images",
        paragraphs=(
            "An image whose features lie far from those of the training gets no answer, whatever its tags say. The "
            "distance is Mahalanobis' (mean square per feature), around 1 for images like those of the training.",
            f"From {limits.unfamiliar_from:.3g} on the reason is `unfamiliar_image`, from "
            f"{limits.not_frontal_chest_from:.3g} on `not_a_frontal_chest`.",
        ),
        tables=(
            Table(
                ("Images", "Engine", "Number", "Should be refused", "Refused", "95 % interval"),
                tuple(
                    (
                        row.dataset,
                        row.engine,
                        f"{row.images}",
                        "yes" if row.wanted else "no",
                        f"{row.refused.value:.1%}",
                        _interval(row.refused),
                    )
                    for row in measured
                ),
            ),
        ),
        plots=(svg("Distance from the training images", (lambda axes: _draw(axes, limits, found),)),) if found else (),
    )


def _interval(figure: Interval) -> str:
    return f"{figure.low:.1%} to {figure.high:.1%} ({figure.method})"


def _draw(axes: Axes, limits: Familiarity, found: Mapping[str, NDArray[np.float64]]) -> None:
    together = np.concatenate(list(found.values()))
    bins = np.geomspace(max(float(together.min()), 1e-6), float(together.max()) * 1.01, _BINS)
    for name, values in found.items():
        axes.hist(values, bins=list(bins), weights=np.full(len(values), 1.0 / len(values)), alpha=0.5, label=name)
    for limit in (limits.unfamiliar_from, limits.not_frontal_chest_from):
        axes.axvline(limit, color="#1f2933", linewidth=1)
    axes.set(xscale="log", xlabel="distance", ylabel="share of the images")
    axes.legend()
