"""The models that this box serves: bundles that were verified, each on an engine that has passed its self-test."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edge.config import Config
from edge.events import BUNDLE_LOADED, emit
from edge.inference.bundle import BundleError, OperatingPoint, SealedBundle, find_bundles, open_bundle
from edge.inference.engine_choice import serve_bundle
from edge.inference.engines import Engine
from edge.inference.familiarity import Gate, read_gate
from edge.records import ModelUsed

LUNGS = "39607008"
"""SNOMED CT code of the one structure whose outline the pipeline can use."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A bundle being served, and the milliseconds of one pass at start, as their median."""

    sealed: SealedBundle
    engine: Engine
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
            experimental=bundle.experimental,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Classifier(Model):
    """Answers for findings: at this operating point, and only on images that its gate lets through."""

    point: OperatingPoint
    gate: Gate


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation(Model):
    """Outlines the lungs."""


def load_models(config: Config, cache: Path) -> list[Model]:
    """Verify, load, warm up and test every bundle in the models folder.

    Args:
        config: Says where the bundles and the trusted keys lie, which engine and how many threads.
        cache: Folder for what the engines compile and for the choice among them.

    Raises:
        BundleError: No bundle looks for findings, one is not what was sealed, or outlines what the box cannot use.
        EngineError: No engine passes the self-test.
    """
    models = [load_model(folder, config, cache) for folder in find_bundles(config.models_folder)]
    if not any(isinstance(model, Classifier) for model in models):
        raise BundleError(
            f"{config.models_folder}: no bundle looks for findings: set inference.models to the folder that has one"
        )
    for bundle in (model.sealed.bundle for model in models):
        if bundle.structure and (bundle.structure.scheme, bundle.structure.code) != ("SCT", LUNGS):
            raise BundleError(f"{bundle.id} outlines {bundle.structure.meaning}: only lungs can be used; remove it")
    return models


def load_model(folder: Path, config: Config, cache: Path) -> Model:
    """Verify, load, warm up and test one bundle; as `load_models`."""
    start, threads = time.perf_counter(), config.inference.threads
    sealed = open_bundle(folder, config.trusted_keys)
    bundle = sealed.bundle
    engine, speed = serve_bundle(config.inference.engine, sealed, threads, cache, config.trusted_keys)
    model: Model
    if bundle.task == "segmentation":
        model = Segmentation(sealed=sealed, engine=engine, median_ms=speed.median_ms)
    else:
        model = Classifier(
            sealed=sealed,
            engine=engine,
            median_ms=speed.median_ms,
            point=bundle.operating_point(config.inference.operating_point),
            gate=read_gate(sealed),
        )
    emit(
        BUNDLE_LOADED,
        model=bundle.id,
        version=bundle.version,
        engine=engine.name,
        threads=threads,
        ms=(time.perf_counter() - start) * 1000,
    )
    return model
