"""A verified bundle in words."""

from edge.inference.bundle import Bundle, Measured, MeasuredMask, MeasuredRefusal, SealedBundle


def explain(sealed: SealedBundle) -> str:
    """What the bundle is, what it was made for, where its thresholds lie and what was measured, as lines of text."""
    bundle = sealed.bundle
    accepts, made = bundle.accepts, bundle.provenance
    lines = [
        f"{bundle.id} {bundle.version}: {bundle.title}",
        f"digest {sealed.digest}; signature and {len(bundle.files)} files verified",
        *(["experimental: measured on too little to rely on"] if bundle.experimental else []),
        f"intended use: {bundle.intended_use}",
        f"not looked for: {bundle.not_looked_for}",
        f"accepts: {', '.join(accepts.modalities)} of {', '.join(accepts.body_parts)}, views "
        f"{', '.join(accepts.views)}, age from {accepts.age_years[0]:g} to below {accepts.age_years[1]:g} years",
        f"input: {bundle.input.name}, 1 x 1 x {bundle.input.height} x {bundle.input.width}, {bundle.input.resize}",
        *_answers(bundle),
        *(describe(measured) for measured in bundle.measured),
        *(describe_mask(measured) for measured in bundle.measured_masks),
        *(describe_refusal(measured) for measured in bundle.measured_refusals),
        f"built {made.get('built', '?')}: {made.get('command', '?')}",
    ]
    return "\n".join(lines) + "\n"


def describe(measured: Measured) -> str:
    """A finding's evaluation in one line."""
    figures = (
        f"{name} {figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"
        for name, figure in (
            ("AUROC", measured.auroc),
            ("sensitivity", measured.sensitivity),
            ("specificity", measured.specificity),
        )
    )
    return (
        f"{measured.finding} {measured.engine} {measured.precision} on {measured.images} {measured.split} images of "
        f"{measured.patients} patients at {measured.operating_point}: {', '.join(figures)}, calibration error "
        f"{measured.expected_calibration_error:.4f}, indeterminate {measured.indeterminate:.1%}, "
        f"{measured.flips_against_fp32} decisions differ from FP32"
    )


def describe_mask(measured: MeasuredMask) -> str:
    """A segmentation's evaluation in one line."""
    dice = measured.dice
    return (
        f"{measured.engine} {measured.precision} on {measured.images} {measured.split} images of {measured.patients} "
        f"patients: Dice {dice.value:.4f} [{dice.low:.4f}, {dice.high:.4f}]"
    )


def describe_refusal(measured: MeasuredRefusal) -> str:
    """What the familiarity gate does with a data set, in one line."""
    share, wanted = measured.refused, "as it should" if measured.wanted else "wrongly"
    return (
        f"{measured.engine} refuses {wanted} {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of "
        f"{measured.images} images: {measured.dataset}"
    )


def _answers(bundle: Bundle) -> list[str]:
    """What the bundle answers with: findings and their thresholds, or the structure; and what it refuses."""
    lines = [
        f"finding: {spec.meaning} ({spec.code} {spec.scheme}), temperature {spec.temperature:.4f}, "
        f"bias {spec.bias:+.4f}"
        for spec in bundle.findings
    ]
    if bundle.structure is not None:
        structure = bundle.structure
        lines.append(f"structure: {structure.meaning} ({structure.code} {structure.scheme})")
    for point in bundle.operating_points:
        default = " (default)" if point.id == bundle.default_operating_point else ""
        lines += [
            f"operating point {point.id}{default}: {each.code} indeterminate from {each.indeterminate_from:.4f}, "
            f"flagged from {each.flagged_from:.4f}"
            for each in point.thresholds
        ]
    if bundle.familiarity is not None:
        known = bundle.familiarity
        lines.append(
            f"familiarity: unfamiliar from a distance of {known.unfamiliar_from:.4f}, no frontal chest radiograph from "
            f"{known.not_frontal_chest_from:.4f}"
        )
    return lines
