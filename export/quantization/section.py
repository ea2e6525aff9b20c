"""What was tried and kept in quantization, for the report and the card."""

from export.document import Section, Table
from export.quantization.search import Quantization, Shift

_SHOWN = 10


def quantization_section(done: Quantization) -> Section:
    """Calibrators, the most sensitive convolutions, and the rounds of the search, with their figures."""
    tables = [_calibrators(done), _rounds(done)]
    if done.ranking:
        tables.append(_ranking(done))
    kept = ", ".join(f"`{name}`" for name in done.left_in_float) or "none"
    heads = sorted({name for names in done.always_in_float.values() for name in names})
    return Section(
        title="Quantization",
        paragraphs=(
            f"Ranges of the activations from {done.calibration_images} images used for nothing else; choices by the "
            f"shift of the outputs from FP32 on {done.validation_images} validation images.",
            f"Left in float from the start: {', '.join(f'`{name}`' for name in heads) or 'none'}. "
            f"Left in float by the search: {kept}.",
        ),
        tables=tuple(tables),
    )


def _calibrators(done: Quantization) -> Table:
    rows = [
        (
            each.calibrator,
            *_figures(each.shift),
            f"{each.seconds:.0f}",
            "yes" if _is_kept(done, each.calibrator) else "",
        )
        for each in done.calibrators
    ]
    return Table(("Calibrator (ONNX Runtime)", "Mean shift", "Largest shift", "Seconds", "Kept"), tuple(rows))


def _is_kept(done: Quantization, calibrator: str) -> bool:
    return calibrator == done.kept_calibrator


def _rounds(done: Quantization) -> Table:
    rows = [
        (str(len(each.left_in_float)), engine, *_figures(found), "; ".join(each.misses) or "none")
        for each in done.rounds
        for engine, found in each.shifts.items()
    ]
    heading = ("Left in float by the search", "Engine", "Mean shift", "Largest shift", "Misses on validation")
    return Table(heading, tuple(rows))


def _ranking(done: Quantization) -> Table:
    rows = [(f"`{each.convolution}`", f"{each.mean_shift:.4f}") for each in done.ranking[:_SHOWN]]
    return Table(("Most sensitive convolutions", "Mean shift when quantized alone"), tuple(rows))


def _figures(found: Shift) -> tuple[str, str]:
    return f"{found.mean:.4f}", f"{found.largest:.3f}"
