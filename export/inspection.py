"""A verified bundle in words."""

from edge.inference.bundle import Measured, SealedBundle


def explain(sealed: SealedBundle) -> str:
    """What the bundle is, what it was made for, where its thresholds lie and what was measured, as lines of text."""
    bundle = sealed.bundle
    accepts, made = bundle.accepts, bundle.provenance
    lines = [
        f"{bundle.id} {bundle.version}: {bundle.title}",
        f"digest {sealed.digest}; signature and {len(bundle.files)} files verified",
        f"intended use: {bundle.intended_use}",
        f"not looked for: {bundle.not_looked_for}",
        f"accepts: {', '.join(accepts.modalities)} of {', '.join(accepts.body_parts)}, views "
        f"{', '.join(accepts.views)}, age from {accepts.age_years[0]:g} to below {accepts.age_years[1]:g} years",
        f"input: {bundle.input.name}, 1 x 1 x {bundle.input.height} x {bundle.input.width}, {bundle.input.resize}",
    ]
    lines += [
        f"finding: {spec.meaning} ({spec.code} {spec.scheme}), temperature {spec.temperature:.4f}, "
        f"bias {spec.bias:+.4f}"
        for spec in bundle.findings
    ]
    lines += [
        f"operating point {point.id}: {each.code} indeterminate from {each.indeterminate_from:.4f}, flagged from "
        f"{each.flagged_from:.4f}"
        for point in bundle.operating_points
        for each in point.thresholds
    ]
    lines += [describe(measured) for measured in bundle.measured]
    lines.append(f"built {made.get('built', '?')}: {made.get('command', '?')}")
    return "\n".join(lines) + "\n"


def describe(measured: Measured) -> str:
    """One evaluation in one line."""
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
        f"{measured.patients} patients: {', '.join(figures)}, calibration error "
        f"{measured.expected_calibration_error:.4f}, indeterminate {measured.indeterminate:.1%}, "
        f"{measured.flips_against_fp32} decisions differ from FP32"
    )
