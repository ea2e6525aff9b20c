"""The subcommand ``scanside-export evaluate``: its options, and what it prints."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edge.errors import UsageError
from edge.inference.engines import ENGINES
from export.deployed.wanted import Part, Wanted
from export.recipe import OperatingPointRecipe, OperatingPointsRecipe

if TYPE_CHECKING:
    from export.deployed.record import Evaluation

_BOTH = "both"
_OUT = Path(".cache/export/evaluation")
_RULE = re.compile(r"(?P<name>\w[\w.-]*):(?P<rule>min_sensitivity|min_specificity)=(?P<share>[0-9.]+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the sealed bundle's folder")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="folder of the labelled images")
    parser.add_argument(
        "--labels", metavar="FILE", help="label CSV in that folder; default: the recipe's, else the folders are labels"
    )
    parser.add_argument(
        "--split",
        choices=get_args(Part),
        help="of the recipe's own data set (default there: test); any other is evaluated whole",
    )
    parser.add_argument(
        "--positive", nargs="+", default=(), metavar="LABEL", help="labels that mean the finding, without a recipe"
    )
    parser.add_argument("--engine", choices=(_BOTH, *ENGINES), default=_BOTH, help="default: both, one after another")
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="reference boxes, CSV with image, x, y, width and height in pixels"
    )
    parser.add_argument(
        "--boxes-side", type=int, default=1024, metavar="N", help="side of the images they refer to (default 1024)"
    )
    parser.add_argument(
        "--choose",
        action="append",
        default=[],
        metavar="NAME:RULE=SHARE",
        help="a site's own operating point, for instance ours:min_sensitivity=0.97 (or min_specificity)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where the reports go (default {_OUT}/MODEL)")
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache/export"), metavar="DIR", help="prepared images, compiled models"
    )


def run(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Evaluates, and prints the figures and where the reports lie.

    Raises:
        UsageError: The options do not fit together; and what `export.deployed.evaluation.evaluate` raises.
    """
    if not options.dataset.is_dir():
        raise UsageError(f"--dataset {options.dataset}: no such folder; give the one that holds the images")
    choose = tuple(read_rule(text) for text in options.choose)
    from export.deployed.evaluation import Asked, evaluate  # noqa: PLC0415 - draws plots: only when it is wanted
    from export.deployed.site_point import snippet  # noqa: PLC0415

    wanted = Wanted(
        dataset=options.dataset,
        labels=options.labels,
        part=options.split,
        positive=tuple(options.positive),
        boxes=options.boxes,
        boxes_side=options.boxes_side,
    )
    out = options.out or _OUT / options.bundle.resolve().parent.name
    asked = Asked(
        bundle=options.bundle,
        trusted_keys=options.trusted_keys,
        wanted=wanted,
        engines=ENGINES if options.engine == _BOTH else (options.engine,),
        out=out,
        cache=options.cache,
        choose=choose,
        indeterminate_share=OperatingPointsRecipe().indeterminate_share,
        command=_command(options),
    )
    evaluation = evaluate(asked, report)
    sys.stdout.write("".join(f"{line}\n" for line in _lines(evaluation)))
    for point in evaluation.site_points:
        sys.stdout.write(snippet(point))
    sys.stdout.write(f"reports: {out / 'evaluation.html'}, evaluation.md and evaluation.json beside it\n")


def read_rule(text: str) -> OperatingPointRecipe:
    """``NAME:min_sensitivity=0.97`` as a rule.

    Raises:
        UsageError: It is not of that form, or no share between 0 and 1.
    """
    match = _RULE.fullmatch(text)
    try:
        share = float(match["share"]) if match else -1.0
    except ValueError:
        share = -1.0
    if not match or not 0.0 < share <= 1.0:
        raise UsageError(
            f"--choose {text!r}: expected NAME:min_sensitivity=SHARE or NAME:min_specificity=SHARE with a share above "
            "0 and up to 1, for instance ours:min_sensitivity=0.97"
        )
    if match["rule"] == "min_sensitivity":
        return OperatingPointRecipe(name=match["name"], min_sensitivity=share)
    return OperatingPointRecipe(name=match["name"], min_specificity=share)


def _lines(evaluation: "Evaluation") -> Iterator[str]:
    from export.evaluation.sections import shown  # noqa: PLC0415

    for engine in evaluation.engines:
        yield (
            f"{engine.engine} {engine.precision}: {engine.images} images, not analysed {shown(engine.not_analysed)}, "
            f"indeterminate {shown(engine.indeterminate)}"
        )
        for finding in engine.findings:
            yield (
                f"  {finding.meaning}: AUROC {shown(finding.auroc, 4)}, ECE {shown(finding.calibration_error, 4)}, "
                f"Brier {shown(finding.brier, 4)}"
            )
            for point in finding.points:
                yield (
                    f"    {point.name}: sensitivity {shown(point.row.sensitivity, 4)}, specificity "
                    f"{shown(point.row.specificity, 4)}"
                )
        if engine.localisation:
            region, peaks = engine.localisation.region, engine.localisation.peaks
            yield f"  maximum of the explanation inside the {region}: {shown(peaks)}"
        if engine.masks:
            yield f"  Dice {shown(engine.masks.dice, 4)}"


def _command(options: argparse.Namespace) -> str:
    """The command line that does this again."""
    words = ["scanside-export", "evaluate", str(options.bundle), "--dataset", str(options.dataset)]
    for name in ("labels", "split", "boxes", "out"):
        if getattr(options, name):
            words += [f"--{name}", str(getattr(options, name))]
    if options.boxes and options.boxes_side != 1024:
        words += ["--boxes-side", str(options.boxes_side)]
    if options.engine != _BOTH:
        words += ["--engine", options.engine]
    for rule in options.choose:
        words += ["--choose", rule]
    if options.positive:
        words += ["--positive", *options.positive]
    return shlex.join(words)
