"""The real commands on tiny data: a bundle that the device accepts, a gate that refuses, training that goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.inference.bundle import BundleError, open_bundle
from edge.inference.engines import ENGINES, open_engine
from edge.inference.familiarity import read_gate
from edge.inference.self_test import self_test
from tests.conftest import ROOT
from tests.export.conftest import LENIENT, killed_at, scanside_export, tiny_recipe, write_model

Built = tuple[Path, Sequence[str]]
Keys = tuple[Path, Path]
pytestmark = pytest.mark.timeout(900)  # whole builds: a minute when idle, many on a busy machine
FILES = (
    "card.html", "card.md", "familiarity.npz", "golden.npz", "model.onnx", "openvino/model.bin", "openvino/model.xml",
)  # fmt: skip
STEPS = ("traced", "quantized", "answers", "embeddings", "speed")
SHIPPED = sorted((ROOT / "models").glob("cxr-*/recipe.yaml"))


@pytest.fixture
def rebuild(built: Built, keys: Keys, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Builds again in ``tmp_path / "model"``, a copy of what was built, with other parts of the recipe."""
    shutil.copytree(built[0].parent, tmp_path / "model")

    def run(**changed: Any) -> subprocess.CompletedProcess[str]:
        recipe = tmp_path / "model/recipe.yaml"
        recipe.write_text(yaml.safe_dump(tiny_recipe() | changed), encoding="utf-8")
        return scanside_export("build", recipe, "--cache", tmp_path / "model/cache", "--key", keys[0])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_device_accepts_what_was_built(built: Built, keys: Keys, tmp_path: Path) -> None:
    sealed = open_bundle(built[0], keys[1].glob("*.pub"))
    assert sorted(sealed.bundle.files) == sorted(FILES)
    assert set(contents(built[0])) == {*FILES, "bundle.yaml", "bundle.yaml.sig"}
    gate = read_gate(sealed)
    assert gate is not None
    for engine in ENGINES:
        self_test(open_engine(engine, sealed, 1, tmp_path), sealed)


def test_every_engine_is_measured_at_every_operating_point(built: Built, keys: Keys) -> None:
    bundle = open_bundle(built[0], keys[1].glob("*.pub")).bundle
    points = [point.id for point in bundle.operating_points]
    assert points == ["high_sensitivity", "balanced", "high_specificity"]
    contenders = {("pytorch", "fp32 before rounding"), ("onnxruntime", "fp32"), *((name, "int8") for name in ENGINES)}
    measured = [(row.engine, row.precision, row.operating_point) for row in bundle.measured]
    assert sorted(measured) == sorted((*who, point) for who in contenders for point in points)
    assert {row.split for row in bundle.measured} == {"test"}
    assert {(row.engine, row.wanted) for row in bundle.measured_refusals} == {(name, False) for name in ENGINES}
    provenance = bundle.provenance
    assert sum(split["images"] for split in provenance["dataset"]["splits"].values()) == 80
    assert [each["member"] for each in provenance["training"]] == ["grey"]


def test_nothing_is_left_beside_the_bundle_nor_half_made_in_the_cache(built: Built) -> None:
    folder = built[0].parent
    assert {path.name for path in folder.iterdir()} == {"bundle", "cache", "data", "recipe.yaml"}
    made = [path.name for path in (folder / "cache/tiny").iterdir()]
    assert sorted(name.split("-")[0] for name in made) == sorted(["grey", "report", *STEPS])
    assert not [path for path in (folder / "cache").rglob("*") if path.suffix == ".partial"]


def test_the_card_holds_the_figures_and_needs_no_other_file(built: Built) -> None:
    folder = built[0]
    measured = yaml.safe_load((folder / "bundle.yaml").read_text(encoding="utf-8"))["measured"]
    card, page = ((folder / name).read_text(encoding="utf-8") for name in ("card.md", "card.html"))
    for row in measured:
        for text in (card, page):
            assert f"{row['auroc']['value']:.4f} ({row['auroc']['low']:.4f} to {row['auroc']['high']:.4f})" in text
    assert "<svg" in page
    assert "<image" not in page
    assert "src=" not in page
    assert "data:image" not in card + page  # no picture of a training image
    for place in (ROOT, folder.parent):
        assert str(place) not in card + page


def test_the_report_tells_all_of_it(built: Built) -> None:
    report = built[0].parent / "cache/tiny/report"
    assert {path.name for path in report.iterdir()} == {"report.md", "report.html", "report.json"}
    figures = json.loads((report / "report.json").read_bytes())
    assert all(check["passed"] for check in figures["checks"])
    text, page = ((report / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    for title in ("Data", "Training", "Gate", "Speed", "Unfamiliar images"):
        assert f"# {title}\n" in text
        assert f"{title}</h" in page
    assert page.count("data:image/png") == 1  # the sample sheet
    assert "<script" not in page


def test_inspect_verifies_and_explains(built: Built, keys: Keys) -> None:
    done = scanside_export("inspect", built[0], "--trusted-keys", keys[1])
    assert done.returncode == 0, done.stderr
    assert f"signature and {len(FILES)} files verified" in done.stdout
    assert done.stdout.count("AUROC") == 12


@pytest.mark.parametrize("name", ["bundle.yaml", "bundle.yaml.sig", *FILES])
def test_one_flipped_byte_in_any_file_is_refused(built: Built, keys: Keys, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(built[0], folder)
    open_bundle(folder, keys[1].glob("*.pub"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError) as refused:
        open_bundle(folder, keys[1].glob("*.pub"))
    assert "\n" not in str(refused.value)


def test_inspect_refuses_a_changed_bundle_and_an_unknown_key(built: Built, keys: Keys, tmp_path: Path) -> None:
    shutil.copytree(built[0], tmp_path / "bundle")
    with (tmp_path / "bundle/card.md").open("a", encoding="utf-8") as card:
        card.write("and never wrong\n")
    other = tmp_path / "keys"
    scanside_export("key", "new", "--key", tmp_path / "other.key", "--trusted-keys", other)
    for bundle, trusted, words in ((tmp_path / "bundle", keys[1], "card.md"), (built[0], other, "no trusted key")):
        done = scanside_export("inspect", bundle, "--trusted-keys", trusted)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert words in done.stderr


def test_the_first_build_does_every_step_and_the_second_none(
    built: Built, keys: Keys, tmp_path: Path, rebuild: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    first = [line.split(" ", 1)[1] for line in built[1] if ":" in line]  # without the clock
    assert [step for step in STEPS if f"{step}: begins" in first] == list(STEPS)
    assert not [line for line in first if "done before" in line]
    before = open_bundle(tmp_path / "model/bundle", keys[1].glob("*.pub")).bundle
    again = rebuild()
    assert again.returncode == 0, again.stderr
    assert [step for step in STEPS if f"{step}: done before" in again.stdout] == list(STEPS)
    assert "grey: trained before" in again.stdout
    assert ": begins" not in again.stdout
    after = open_bundle(tmp_path / "model/bundle", keys[1].glob("*.pub")).bundle
    assert after.measured == before.measured
    assert {name: after.files[name] for name in FILES if "card" not in name} == {
        name: before.files[name] for name in FILES if "card" not in name
    }
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"bundle", "cache", "data", "recipe.yaml"}


def test_the_gate_refuses_in_one_line_with_a_report_and_without_a_bundle(
    tmp_path: Path, rebuild: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    bundle, report = tmp_path / "model/bundle", tmp_path / "model/cache/tiny/report"
    older = contents(bundle)
    shutil.rmtree(report)
    unmet = LENIENT | {"faster_than_fp32": 1000.0, "min_auroc": 1.0}
    refused = rebuild(gate=unmet)
    assert refused.returncode == 1
    said = refused.stderr.splitlines()[-1]
    assert said.startswith("scanside-export: the gate refuses the model")
    for words in ("faster_than_fp32", "at least 1000", "min_auroc", "no bundle was written"):
        assert words in said
    assert contents(bundle) == older  # the one before stays as it was
    assert {path.name for path in report.iterdir()} == {"report.md", "report.html", "report.json"}
    checks = json.loads((report / "report.json").read_bytes())["checks"]
    assert {check["name"] for check in checks if not check["passed"]} == {"faster_than_fp32", "min_auroc"}
    assert "missed" in (report / "report.md").read_text(encoding="utf-8")
    shutil.rmtree(bundle)
    again = rebuild(gate=unmet)
    assert (again.returncode, again.stderr) == (1, f"{said}\n")  # no step is made again, so nothing else is said
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"cache", "data", "recipe.yaml"}


@pytest.fixture(scope="module")
def smoke_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all shipped recipes: one begins with what the others trained."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda path: path.parent.name)
def test_the_smoke_run_of_a_shipped_recipe_makes_a_bundle_in_the_cache(
    shared: Path, keys: Keys, tmp_path: Path, smoke_cache: Path, recipe: Path
) -> None:
    cache, beside = smoke_cache, {path.name for path in recipe.parent.iterdir()}
    done = scanside_export("build", recipe, "--smoke", "--cache", cache, "--key", keys[0])
    assert done.returncode == 0, done.stderr
    sealed = open_bundle(cache / "smoke" / recipe.parent.name / "bundle", keys[1].glob("*.pub"))
    assert sealed.bundle.id == recipe.parent.name
    for engine in ENGINES:
        self_test(open_engine(engine, sealed, 1, tmp_path / "engines"), sealed)
    assert {path.name for path in recipe.parent.iterdir()} == beside


def test_a_new_key_is_private_and_never_overwrites(keys: Keys) -> None:
    private, trusted = keys
    assert private.stat().st_mode & 0o777 == 0o600
    assert (trusted / "test.pub").read_text(encoding="ascii").startswith("-----BEGIN PUBLIC KEY-----")
    again = scanside_export("key", "new", "--key", private, "--trusted-keys", trusted, "--name", "other")
    assert again.returncode == 1
    assert "never overwritten" in again.stderr


def test_build_refuses_a_key_that_others_can_read(keys: Keys, tmp_path: Path) -> None:
    shown = tmp_path / "shown.key"
    shutil.copy(keys[0], shown)
    shown.chmod(0o644)
    recipe = write_model(tmp_path / "model", tiny_recipe(), patients=4)
    done = scanside_export("build", recipe, "--cache", tmp_path / "cache", "--key", shown)
    assert done.returncode == 1
    assert "chmod 600" in done.stderr
    assert not (recipe.parent / "bundle").exists()


def test_training_goes_on_after_a_kill_and_ends_the_same(tmp_path: Path) -> None:
    recipe = write_model(tmp_path, tiny_recipe(epochs=2))
    killed_at("training loss", "train", recipe, "--cache", tmp_path / "killed")
    resumed = scanside_export("train", recipe, "--cache", tmp_path / "killed")
    unbroken = scanside_export("train", recipe, "--cache", tmp_path / "unbroken")
    assert "training goes on after epoch" in resumed.stdout
    assert _last_epoch(resumed.stdout) == _last_epoch(unbroken.stdout)
    finished = scanside_export("train", recipe, "--cache", tmp_path / "killed")
    assert "trained before" in finished.stdout


def _last_epoch(printed: str) -> str:
    line = next(line for line in printed.splitlines() if " epoch 2/2 " in line)
    return line.split(" s, ")[1]  # the losses; before them stand clock and duration


def test_wrong_use_is_2(tmp_path: Path) -> None:
    assert scanside_export("build", tmp_path / "none.yaml").returncode == 2
    assert scanside_export("transmogrify").returncode == 2
    recipe = write_model(tmp_path / "model", tiny_recipe(), patients=4)
    assert scanside_export("train", recipe, "--dataset", tmp_path / "none").returncode == 2
