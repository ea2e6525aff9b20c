"""The ``scanside-export`` command: each subcommand is a few lines that call a module of the export stage.

Exit status: 0 fine, 1 the work failed, 2 wrong use. Errors are one line: value, rule, fix; --debug shows tracebacks.
Subcommands import what they need themselves, so that ``key`` and ``inspect`` do not wait for PyTorch.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge import __version__
from edge.errors import ScansideError, UsageError
from edge.inference.bundle import open_bundle
from export.deployed import command as evaluation_command
from export.keys import DEFAULT_KEY, load_key, new_key

if TYPE_CHECKING:
    from export.fitting import Place

_TRUSTED_KEYS = Path("firmware_config/trusted_keys")
_MODELS = Path("models")
_CACHE = Path(".cache/export")
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        command(options)
    except KeyboardInterrupt:
        sys.stderr.write("scanside-export: interrupted; the same command goes on from the last checkpoint\n")
        return 1
    except Exception as error:
        if options.debug:
            raise
        sys.stderr.write(f"scanside-export: {_in_one_line(error)}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, ScansideError):
        return said
    if any(words in said for words in _FULL):
        return f"the disk is full ({said}); free some space and run the same command again, it goes on"
    return f"{type(error).__name__}: {said} (--debug shows where)"


def _train(options: argparse.Namespace) -> None:
    place = _place(options)
    from export.fitting import fit  # noqa: PLC0415

    fit(place, _say)


def _build(options: argparse.Namespace) -> None:
    place, key = _place(options), load_key(options.key.expanduser())
    from export.build import build  # noqa: PLC0415

    build(place, key, _say)


def _weigh(options: argparse.Namespace) -> None:
    place = _place(options)
    from export.label_weight import weigh  # noqa: PLC0415

    weigh(place, _say)


def _inspect(options: argparse.Namespace) -> None:
    sealed = open_bundle(options.bundle, sorted(options.trusted_keys.glob("*.pub")))
    from export.inspection import explain  # noqa: PLC0415

    sys.stdout.write(explain(sealed))


def _evaluate(options: argparse.Namespace) -> None:
    evaluation_command.run(options, _say)


def _key_new(options: argparse.Namespace) -> None:
    private, public = options.key.expanduser(), options.trusted_keys / f"{options.name}.pub"
    new_key(private, public)
    print(f"private key {private} (keep it out of the repository), public key {public} (commit it)")


def _key_rotate(options: argparse.Namespace) -> None:
    from export.rotation import rotate  # noqa: PLC0415

    private = options.key.expanduser()
    bundles = rotate(options.name, signing_key=private, trusted_keys=options.trusted_keys, models=options.models)
    print(f"private key {private} (keep it out of the repository), public key {options.name}.pub (commit it)")
    print(f"signed again, digests unchanged (commit the signatures): {', '.join(map(str, bundles))}")


def _synthesize(options: argparse.Namespace) -> None:
    if not options.dataset.is_dir():
        raise UsageError(f"{options.dataset}: no such folder; give the one that holds labels.csv")
    from export.synthetic import fit  # noqa: PLC0415

    print(msgspec.json.format(msgspec.json.encode(fit(options.dataset))).decode())


def _templates(options: argparse.Namespace) -> None:
    if not options.data.is_dir():
        raise UsageError(f"{options.data}: no such folder; give the one that holds cxr_kermany and cxr_nih")
    from export.quality_templates import fit  # noqa: PLC0415

    print(msgspec.json.format(msgspec.json.encode(fit(options.data))).decode())


def _place(options: argparse.Namespace) -> Place:
    if not options.recipe.is_file():
        raise UsageError(f"{options.recipe}: no such file; give the path of a recipe.yaml")
    if options.dataset is not None and not options.dataset.is_dir():
        raise UsageError(f"--dataset {options.dataset}: no such folder; give the folder that holds the label file")
    from export.fitting import Place  # noqa: PLC0415

    return Place(
        recipe=options.recipe.resolve(), cache=options.cache.resolve(), dataset=options.dataset, smoke=options.smoke
    )


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("recipe", type=Path, metavar="RECIPE", help="models/<id>/recipe.yaml")
    model.add_argument("--dataset", type=Path, metavar="DIR", help="the data set's folder, instead of the recipe's")
    model.add_argument("--cache", type=Path, default=_CACHE, metavar="DIR", help=f"checkpoints (default {_CACHE})")
    model.add_argument(
        "--smoke", action="store_true", help="only see that all runs: few small images, bundle into the cache, no gate"
    )
    signing = argparse.ArgumentParser(add_help=False)
    signing.add_argument(
        "--key", type=Path, default=DEFAULT_KEY, metavar="FILE", help=f"private key (default {DEFAULT_KEY})"
    )
    trust = argparse.ArgumentParser(add_help=False)
    trust.add_argument(
        "--trusted-keys", type=Path, default=_TRUSTED_KEYS, metavar="DIR", help=f"public keys (default {_TRUSTED_KEYS})"
    )
    parser = argparse.ArgumentParser(
        prog="scanside-export", description="Trains, quantizes, proves and seals the models that Scanside devices run."
    )
    parser.add_argument("--version", action="version", version=f"scanside {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", parents=[common, model], help="fit the weights; goes on after a kill")
    train.set_defaults(command=_train)
    build = commands.add_parser(
        "build", parents=[common, model, signing], help="everything, from recipe to sealed bundle"
    )
    build.set_defaults(command=_build)
    weigh = commands.add_parser(
        "weigh", parents=[common, model], help="what doubtful labels are worth, judged on training images alone"
    )
    weigh.set_defaults(command=_weigh)
    inspect = commands.add_parser("inspect", parents=[common, trust], help="verify a bundle and say what it is")
    inspect.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    inspect.set_defaults(command=_inspect)

    evaluate = commands.add_parser(
        "evaluate", parents=[common, trust], help="run a sealed bundle as the device does, on labelled images"
    )
    evaluation_command.add_arguments(evaluate)
    evaluate.set_defaults(command=_evaluate)

    key = commands.add_parser("key", help="signing keys").add_subparsers(required=True, metavar="COMMAND")
    new = key.add_parser("new", parents=[common, signing, trust], help="make an Ed25519 key pair")
    new.add_argument("--name", default="scanside", help="name of the public key's file (default scanside)")
    new.set_defaults(command=_key_new)
    rotate = key.add_parser(
        "rotate", parents=[common, signing, trust], help="make a key pair, sign every bundle with it, trust it alone"
    )
    rotate.add_argument("--name", required=True, help="name of the new public key's file; no key there has it")
    rotate.add_argument(
        "--models", type=Path, default=_MODELS, metavar="DIR", help=f"folder of the bundles (default {_MODELS})"
    )
    rotate.set_defaults(command=_key_rotate)

    synthesize = commands.add_parser("synthesize", parents=[common], help="fit the demo's synthetic radiographs")
    synthesize.add_argument("dataset", type=Path, metavar="DATASET", help="folder with labels.csv")
    synthesize.set_defaults(command=_synthesize)

    templates = commands.add_parser("templates", parents=[common], help="fit the templates of the quality checks")
    templates.add_argument("data", type=Path, metavar="DATA", help="folder with the data sets cxr_kermany and cxr_nih")
    templates.set_defaults(command=_templates)
    return parser


if __name__ == "__main__":
    sys.exit(main())
