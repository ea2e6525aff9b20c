"""The model card: the nine sections of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), from the run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.errors import ScansideError
from edge.inference.bundle import Bundle, Measured
from export.document import Section, Table, markdown, page, plots_of
from export.evaluation.findings import FindingFigures, Scored
from export.evaluation.plots import finding_plots
from export.evaluation.sections import METRICS, finding_section, mask_section, shown
from export.evaluation.subgroups import worst
from export.recipe import Recipe

EXPERIMENTAL = "EXPERIMENTAL: measured on too little to rely on."
_ENOUGH_POSITIVES = 100
"""Wilson's interval for 90 % of 100 is 0.83 to 0.95: fewer positives cannot carry such a figure."""


class CardError(ScansideError):
    """A card that must not be written; the message is one line."""


def write_cards(folder: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes ``card.md`` and ``card.html`` (self-contained).

    Raises:
        CardError: A plot holds pixels: a bundle leaves the house, and no picture of a patient with it.
    """
    picture = next((plot for plot in plots_of(sections) if "<img" in plot or "<image" in plot), None)
    if picture is not None:
        raise CardError(f"{folder}: a plot holds a picture ({picture[:40]}...); a card has drawings only: leave it out")
    (folder / "card.md").write_text(markdown(title, sections), encoding="utf-8")
    (folder / "card.html").write_text(page(title, sections), encoding="utf-8")


def card_title(bundle: Bundle) -> str:
    """The card's heading; says so when the model is experimental."""
    return f"{'Experimental: ' * bundle.experimental}{bundle.title} ({bundle.id} {bundle.version})"


def card_sections(
    bundle: Bundle,
    recipe: Recipe,
    tested: Sequence[tuple[Scored, FindingFigures]],
    *,
    training: Sequence[Section] = (),
    analyses: Sequence[Section] = (),
) -> list[Section]:
    """The nine sections.

    Args:
        bundle: With everything measured, and its provenance: at least ``built``, ``command``, and ``dataset`` with
            ``name``, ``licence``, ``sha256`` and ``splits`` (counts by split).
        recipe: What it was built from.
        tested: The test split of each finding and INT8 engine, and the figures of it.
        training: What else to tell under "Training data": the history.
        analyses: What else to tell under "Quantitative analyses": gate, quantization, refusals, speed.
    """
    return [
        _details(bundle),
        _intended_use(bundle),
        _factors([figures for _, figures in tested]),
        _metrics(bundle),
        _evaluation_data(bundle, recipe),
        _training_data(bundle, recipe, training),
        _analyses(bundle, recipe, tested, analyses),
        _ethics(bundle, [figures for _, figures in tested]),
        _caveats(bundle, recipe),
    ]


def _details(bundle: Bundle) -> Section:
    made = bundle.provenance
    outputs = ", ".join(sorted(bundle.outputs))
    what = (
        f"{bundle.id} {bundle.version}, a {bundle.task} built on {made['built']}: INT8 for ONNX Runtime and OpenVINO, "
        f"input one grey channel of {bundle.input.height} x {bundle.input.width} pixels, one pass gives {outputs}."
    )
    left_out = ("dataset", "built", "command")
    facts = tuple(_facts({key: value for key, value in made.items() if key not in left_out}))
    verify = f"Verify signature and digests, and print the figures: `scanside-export inspect models/{bundle.id}/bundle`"
    paragraphs = (EXPERIMENTAL, what) if bundle.experimental else (what,)
    return Section("Model details", paragraphs, (f"Build it again: `{made['command']}`", verify, *facts))


def _intended_use(bundle: Bundle) -> Section:
    accepts = bundle.accepts
    looked_for = [f"{each.meaning} ({each.code} {each.scheme})" for each in bundle.findings]
    if bundle.structure:
        looked_for = [f"outline of: {bundle.structure.meaning} ({bundle.structure.code} {bundle.structure.scheme})"]
    return Section(
        "Intended use",
        (bundle.intended_use, f"Looked for: {', '.join(looked_for)}.", f"Not looked for: {bundle.not_looked_for}"),
        (
            f"Accepted: modalities {', '.join(accepts.modalities)}; body parts {', '.join(accepts.body_parts)}; views "
            f"{', '.join(accepts.views)}; age from {accepts.age_years[0]:g} to below {accepts.age_years[1]:g} years. "
            "Any other image gets a reason instead of an answer.",
        ),
    )


def _factors(figures: Sequence[FindingFigures]) -> Section:
    compared = sorted({row.attribute for each in figures for row in each.subgroups})
    missing = [name for name in ("sex", "age", "view", "source") if name not in compared]
    points = [f"Compared below: {', '.join(compared)}." if compared else "No groups could be compared."]
    if missing:
        points.append(f"Unknown or all alike in the test images, so not compared: {', '.join(missing)}.")
    for each in figures:
        lowest = worst(each.subgroups)
        if lowest is not None:
            points.append(
                f"Worst group for {each.meaning} on {each.engine}: {lowest.attribute} {lowest.group}, sensitivity "
                f"{shown(lowest.sensitivity)} of {lowest.positives} positives of {lowest.patients} patients."
            )
    return Section(
        "Factors",
        (
            "What may change the answers: age, sex, view (AP or PA) and position, detector and processing, exposure, "
            "markers and tubes, other disease. Detector, processing and origin are not recorded in the images.",
        ),
        tuple(points),
    )


def _metrics(bundle: Bundle) -> Section:
    if bundle.task == "segmentation":
        return Section(
            "Metrics",
            (
                "Dice is twice the area common to mask and reference by the sum of both, from a mask value of 0.5 on; "
                "the mean over the images, with a 95 % interval from a bootstrap of whole patients.",
            ),
        )
    heading = ("Operating point", "Finding", "Indeterminate from", "Flagged from", "Rule, on the validation split")
    rows = [
        (
            f"{point.id}{' (default)' * (point.id == bundle.default_operating_point)}",
            each.code,
            f"{each.indeterminate_from:.6g}",
            f"{each.flagged_from:.6g}",
            point.description,
        )
        for point in bundle.operating_points
        for each in point.thresholds
    ]
    return Section(
        "Metrics",
        (
            *METRICS,
            "Probabilities are calibrated by temperature and bias on the validation split, on the outputs of both INT8 "
            "engines together, and hold for its mix of cases.",
        ),
        (),
        (Table(heading, tuple(rows)),),
    )


def _evaluation_data(bundle: Bundle, recipe: Recipe) -> Section:
    data = bundle.provenance["dataset"]
    reserved = ", ".join(Path(name).parent.name for name in recipe.dataset.reserved)
    points = [f"{data['name']}; licence {data['licence']}; SHA-256 {data['sha256']}."]
    if recipe.dataset.reference:
        points.append(
            f"The truth of the test images is the column {recipe.dataset.reference.column!r}; images that it calls "
            "neither positive nor negative are left out."
        )
    if reserved:
        points.append(f"Patients who also appear in {reserved} are all in the test split.")
    return Section(
        "Evaluation data",
        (
            "The test split: patients apart from all others, and no image alike. Weights, calibration and thresholds "
            "were set without it. It is decoded, windowed and resized by the device's own code. It comes from the same "
            "source as the training images: elsewhere expect lower figures.",
        ),
        tuple(points),
        (_splits({"test": data["splits"]["test"]}),),
    )


def _training_data(bundle: Bundle, recipe: Recipe, training: Sequence[Section]) -> Section:
    splits = bundle.provenance["dataset"]["splits"]
    points = []
    if recipe.training.balance_within:
        points.append(f"Both classes weigh the same within each {recipe.training.balance_within}.")
    elif recipe.training.balance_classes:
        points.append("Both classes weigh the same in the loss.")
    points += [f"{member.name} starts from {_base_name(member.start)}." for member in recipe.training.members]
    return Section(
        "Training data",
        (
            "Training fits the weights; validation stops it and sets calibration, thresholds and familiarity; "
            "calibration sets the ranges of the quantizers and nothing else.",
        ),
        tuple(points),
        (_splits({name: counts for name, counts in splits.items() if name != "test"}),),
        sections=tuple(training),
    )


def _analyses(
    bundle: Bundle, recipe: Recipe, tested: Sequence[tuple[Scored, FindingFigures]], analyses: Sequence[Section]
) -> Section:
    data = os.path.normpath(Path("models") / bundle.id / recipe.dataset.path)
    below = [finding_section(figures, finding_plots(scored, figures)) for scored, figures in tested]
    if bundle.measured_masks:
        below.append(mask_section(bundle.measured_masks))
    return Section(
        "Quantitative analyses",
        (
            f"Test split, measured on {bundle.provenance['built']}, before the gate for unfamiliar images, whose "
            "refusals are counted apart.",
        ),
        (
            f"The first table again: `scanside-export inspect models/{bundle.id}/bundle`",
            "Figures, tables and plots again, through the device's own pipeline with its refusals: "
            f"`scanside-export evaluate models/{bundle.id}/bundle --dataset {data} --split test`",
            f"All of it: `{bundle.provenance['command']}`",
        ),
        (_results(bundle.measured),) if bundle.measured else (),
        sections=(*below, *analyses),
    )


def _ethics(bundle: Bundle, figures: Sequence[FindingFigures]) -> Section:
    by_sex = any(row.attribute == "sex" for each in figures for row in each.subgroups)
    fairness = (
        "Origin and income of the patients are not recorded: fairness between such groups could not be measured."
        if by_sex
        else "Sex, origin and income of the patients are not recorded: fairness between groups could not be measured."
    )
    licence = bundle.provenance["dataset"]["licence"]
    answer = (
        "The answer is a flag for a technician, never a diagnosis, and never says that a patient is healthy."
        if bundle.findings
        else "The outline is for other software; it says nothing about disease."
    )
    return Section(
        "Ethical considerations",
        (
            f"{answer} A person must read every image. People follow wrong advice too: the flag may not take the place "
            "of looking.",
            fairness,
            f"The images were published under a licence that allows this use ({licence}). None of them is in "
            "this bundle: its golden inputs are synthetic, its plots hold figures only.",
        ),
    )


def _caveats(bundle: Bundle, recipe: Recipe) -> Section:
    points = list(recipe.weak_spots)
    positives = min((each.positives for each in bundle.measured), default=_ENOUGH_POSITIVES)
    if positives < _ENOUGH_POSITIVES:
        points.append(
            f"Only {positives} test images have the finding: too few to rely on any single figure; mind the intervals."
        )
    points.append(
        "Measure it on images of the site before use, and again after each change of detector, processing or patients: "
        f"`scanside-export evaluate models/{bundle.id}/bundle --dataset DIR`, with `--choose` for the site's own "
        "operating point."
    )
    return Section("Caveats and recommendations", (EXPERIMENTAL,) if bundle.experimental else (), tuple(points))


def _results(measured: Sequence[Measured]) -> Table:
    heading = (
        "Finding, engine",
        "Point",
        "Images (patients, positive)",
        "AUROC",
        "Sensitivity",
        "Specificity",
        "ECE",
        "Indeterminate",
        "Differ from FP32",
    )
    rows = [
        (
            f"{each.finding} {each.engine} {each.precision}",
            each.operating_point,
            f"{each.images} ({each.patients}, {each.positives})",
            *(shown(figure, 4) for figure in (each.auroc, each.sensitivity, each.specificity)),
            f"{each.expected_calibration_error:.4f}",
            f"{each.indeterminate:.1%}",
            str(each.flips_against_fp32),
        )
        for each in measured
    ]
    return Table(heading, tuple(rows))


def _splits(splits: Mapping[str, Mapping[str, int]]) -> Table:
    keys = list(next(iter(splits.values()), {}))
    rows = [(name, *(str(counts[key]) for key in keys)) for name, counts in splits.items()]
    return Table(("Split", *keys), tuple(rows))


def _facts(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Provenance as lines; lists of records (the history) are told elsewhere."""
    for key, value in tree.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping) and any(isinstance(inner, Mapping | list) for inner in value.values()):
            yield from _facts(value, f"{name}, ")
        elif isinstance(value, Mapping):
            yield f"{name}: {', '.join(f'{inner} {given}' for inner, given in value.items())}"
        elif isinstance(value, list | tuple):
            if value and not isinstance(value[0], Mapping):
                yield f"{name}: {', '.join(map(str, value)) or 'none'}"
        else:
            yield f"{name}: {value}"


def _base_name(start: str | None) -> str:
    if start is None:
        return "random weights"
    path = Path(start)
    return f"the member of the same name of {path.parent.name}" if path.name == "recipe.yaml" else path.name
