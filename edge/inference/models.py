"""The models that this box serves: bundles that were verified, each on an engine that has passed its self-test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge.config import Config
from edge.events import BUNDLE_LOADED, emit
from edge.inference.bundle import BundleError, OperatingPoint, SealedBundle, find_bundles, open_bundle
from edge.inference.engine_choice import serve_bundle
from edge.inference.engines import Engine
from edge.records import ModelUsed


class Model(NamedTuple):
    """A bundle being served."""

    sealed: SealedBundle
    engine: Engine
    point: OperatingPoint
    median_ms: float

    @property
    def used(self) -> ModelUsed:
        """How results name it."""
        bundle = self.sealed.bundle
        return ModelUsed(
            id=bundle.id,
            version=bundle.version,
            digest=self.sealed.digest,
            engine=self.engine.name,
            precision=bundle.precision,
        )


def load_models(config: Config, cache: Path) -> list[Model]:
    """Verify, load, warm up and test every bundle in the models folder.

    Args:
        config: Says where the bundles and the trusted keys lie, which engine and how many threads.
        cache: Folder for what the engines compile and for the choice among them.

    Raises:
        BundleError: There is no bundle, or one is not what was sealed.
        EngineError: No engine passes the self-test.
    """
    folders = find_bundles(config.models_folder)
    if not folders:
        raise BundleError(
            f"{config.models_folder}: no model bundle here: set inference.models to the folder that has them"
        )
    return [_load(folder, config, cache, config.trusted_keys) for folder in folders]


def _load(folder: Path, config: Config, cache: Path, trusted_keys: Sequence[Path]) -> Model:
    start, threads = time.perf_counter(), config.inference.threads
    sealed = open_bundle(folder, trusted_keys)
    point = sealed.bundle.operating_point(config.inference.operating_point)
    engine, speed = serve_bundle(config.inference.engine, sealed, threads, cache, trusted_keys)
    emit(
        BUNDLE_LOADED,
        model=sealed.bundle.id,
        version=sealed.bundle.version,
        engine=engine.name,
        threads=threads,
        ms=(time.perf_counter() - start) * 1000,
    )
    return Model(sealed, engine, point, speed.median_ms)
