"""The bundles in `models/`: sealed, the same answers on both engines, and refused when a byte is not what it was."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.config import Config
from edge.inference.bundle import GOLDEN_FILE, BundleError, SealedBundle, find_bundles, open_bundle
from edge.inference.engine_choice import serve_bundle
from edge.inference.engines import ENGINES, EngineError, open_engine
from edge.inference.models import Classifier, load_models
from edge.inference.pipeline import analyse
from edge.inference.self_test import self_test
from edge.records import Reason, Status
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file, wrap

CONFIG = Config()
BUNDLES = find_bundles(CONFIG.models_folder)


@pytest.fixture(params=BUNDLES, ids=lambda folder: folder.parent.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """Each shipped bundle's folder."""
    path: Path = request.param
    return path


def test_there_is_a_bundle() -> None:
    assert BUNDLES


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_passes_its_self_test(folder: Path, engine: str, tmp_path: Path) -> None:
    sealed = open_bundle(folder, CONFIG.trusted_keys)
    assert self_test(open_engine(engine, sealed, 2, tmp_path), sealed).best_ms > 0


def test_the_bundle_is_small_and_complete(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    sealed = open_bundle(folder, CONFIG.trusted_keys)
    models = [path for path in files if path.suffix in (".onnx", ".xml", ".bin")]
    assert sum(path.stat().st_size for path in models) < 12_000_000
    listed = {folder / name for name in sealed.bundle.files} | {folder / "bundle.yaml", folder / "bundle.yaml.sig"}
    assert set(files) == listed
    figures = [(row.engine, row.auroc) for row in sealed.bundle.measured]
    figures += [(row.engine, row.dice) for row in sealed.bundle.measured_masks]
    assert {engine for engine, _ in figures} >= set(ENGINES)
    assert all(figure.low <= figure.value <= figure.high for _, figure in figures)


def test_one_changed_byte_in_any_file_is_refused(folder: Path, tmp_path: Path) -> None:
    for original in (path for path in folder.rglob("*") if path.is_file()):
        copy = tmp_path / "bundle"
        shutil.copytree(folder, copy)
        changed = copy / original.relative_to(folder)
        content = bytearray(changed.read_bytes())
        content[len(content) // 2] ^= 0x01
        changed.write_bytes(content)
        with pytest.raises(BundleError):
            open_bundle(copy, CONFIG.trusted_keys)
        shutil.rmtree(copy)


def test_a_missing_file_and_an_unknown_key_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(folder, copy)
    (copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        open_bundle(copy, CONFIG.trusted_keys)
    stranger = tmp_path / "stranger.pub"
    key = Ed25519PrivateKey.generate().public_key()
    stranger.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for keys in ([], [stranger]):
        with pytest.raises(BundleError, match="no trusted key"):
            open_bundle(folder, keys)


def test_hands_and_skulls_that_are_tagged_as_chests_get_no_score(tmp_path: Path, shared: Path) -> None:
    """At least 97 of 100 are refused by the pixels alone, and none of the refused carries a finding or a map."""
    models = load_models(CONFIG, tmp_path)
    gated = [model for model in models if isinstance(model, Classifier)]
    assert gated
    pictures = sorted((shared / "data/not_frontal_chest/images").iterdir())
    for model in gated:
        age = f"{math.ceil(model.sealed.bundle.accepts.age_years[0]):03d}Y"
        answers = []
        for number, path in enumerate(pictures):
            picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert picture is not None
            answers.append(analyse(wrap(picture, seed=number, age=age), [model], source=path.name))
        refused = [answer for answer in answers if answer.result.status is Status.NOT_ANALYSED]
        assert len(refused) >= 0.97 * len(pictures)
        assert all(not answer.result.findings and answer.maps is None for answer in refused)
        assert {answer.result.reason for answer in refused} <= {
            Reason.NOT_A_FRONTAL_CHEST,
            Reason.UNFAMILIAR_IMAGE,
            Reason.EMPTY_IMAGE,
        }


@pytest.mark.parametrize(("data_set", "at_most"), [("cxr_full_size", 0), ("cxr_kermany_aspect", 6)])
def test_radiographs_as_they_come_from_the_scanner_are_familiar(
    data_set: str, at_most: int, tmp_path: Path, shared: Path
) -> None:
    """The training images were resized by others: the gate must not take the device's own resizing for strangeness."""
    models = load_models(CONFIG, tmp_path)
    pictures = sorted((shared / "data" / data_set).rglob("*.jp*g"))
    answers = [
        analyse(path.read_bytes(), models, source=path.name, modality="DX", age_years=3.0).result for path in pictures
    ]
    assert len(answers) >= 24
    assert sum(answer.status is Status.NOT_ANALYSED for answer in answers) <= at_most


@pytest.mark.parametrize("kind", Kind)
def test_the_demos_radiographs_are_familiar(kind: Kind, tmp_path: Path) -> None:
    models = load_models(CONFIG, tmp_path)
    drawn = [dx_file(radiograph(kind, seed, 500, 625), seed=seed) for seed in range(8)]
    reasons = [analyse(data, models, source="drawn").result.reason for data in drawn]
    assert reasons == [None] * len(drawn)


def _with_other_golden(folder: Path, target: Path) -> SealedBundle:
    """The same bundle whose golden outputs are those of another CPU, so to say."""
    shutil.copytree(folder, target)
    sealed = open_bundle(target, CONFIG.trusted_keys)
    with np.load(target / GOLDEN_FILE) as golden:
        arrays = {name: golden[name] for name in golden.files}
    changed = {f"{engine}_{output}" for engine in ENGINES for output in sealed.bundle.outputs}
    arrays |= {name: arrays[name] + np.float32(1.0) for name in changed}
    np.savez_compressed(target / GOLDEN_FILE, **arrays)
    return sealed


@pytest.mark.parametrize("wanted", [*ENGINES, "auto"])
def test_an_engine_that_answers_differently_is_not_served(wanted: str, tmp_path: Path) -> None:
    sealed = _with_other_golden(BUNDLES[0], tmp_path / "bundle")
    with pytest.raises(EngineError):
        serve_bundle(wanted, sealed, 2, tmp_path / "cache", CONFIG.trusted_keys)


def test_auto_serves_one_that_passed_and_remembers_it(tmp_path: Path) -> None:
    sealed = open_bundle(BUNDLES[0], CONFIG.trusted_keys)
    first = serve_bundle("auto", sealed, 2, tmp_path, CONFIG.trusted_keys)
    kept = (tmp_path / "engine_choice.json").read_bytes()
    again = serve_bundle("auto", sealed, 2, tmp_path, CONFIG.trusted_keys)
    assert first.engine.name in ENGINES
    assert again.engine.name == first.engine.name
    assert (tmp_path / "engine_choice.json").read_bytes() == kept
