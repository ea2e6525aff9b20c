from __future__ import annotations

import itertools
import shutil
from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from pydicom.uid import generate_uid

from edge.imaging.resample import to_model_input
from export import datasets
from export.datasets.preparation import in_progress
from export.recipe import ReferenceRecipe
from tests.export.conftest import SIDE
from tests.export.dataset_files import FINDING, RECIPE, STRUCTURE, data, lines, load, rewrite, write_dicom, write_masks

__all__ = ["data"]


def test_loading_prepares_as_the_device_does_and_keeps_the_pixels(data: Path) -> None:
    first, again = load(data, side=SIDE // 2), load(data, side=SIDE // 2)
    assert first.fingerprint == again.fingerprint
    assert len(list((data.parent / "cache").glob("*.npy"))) == 1
    device = to_model_input(datasets.read_image(data / "0.png", SIDE)[0, 0], SIDE // 2, SIDE // 2)
    assert np.abs(datasets.to_input(first.pixels[:1]) - device).max() <= 0.5 / 255 + 1e-6
    assert first.targets[:4, 0].tolist() == [0, 0, 1, 1]
    assert first.masks is None


def test_progress_says_how_long_the_rest_will_take() -> None:
    said: list[str] = []
    clock = itertools.count(0.0, 4.0)  # each item takes four seconds
    assert list(in_progress(range(10), "reading", said.append, lambda: next(clock))) == list(range(10))
    assert said == ["reading: 2 of 10, 48 s left", "reading: 5 of 10, 24 s left", "reading: 8 of 10, 9 s left"]


def test_a_changed_image_is_prepared_again(data: Path) -> None:
    before = load(data)
    picture = cv2.imread(str(data / "0.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert cv2.imwrite(str(data / "0.png"), 255 - picture)
    after = load(data)
    assert np.array_equal(after.pixels[0], 255 - before.pixels[0])
    assert after.fingerprint != before.fingerprint


def test_a_cell_may_hold_several_labels_and_a_finding_may_have_several_names(data: Path) -> None:
    cells = ["No Finding", "Edema", "Infiltration | Pneumonia", "Edema|Pneumonias"]
    rewrite(data, lambda number, line: line.update(label=cells[number % 4]))
    finding = msgspec.structs.replace(FINDING, labels=("Pneumonia", "Infiltration"))
    edema = msgspec.structs.replace(FINDING, labels=("Edema",))
    loaded = load(data, findings=[finding, edema])
    assert loaded.targets[:4].tolist() == [[0, 0], [0, 1], [1, 0], [0, 1]]


def test_what_the_csv_says_of_a_patient_is_kept(data: Path) -> None:
    ages = ["36", "003Y", "paediatric (1-5 y)", ""]
    rewrite(data, lambda n, line: line.update(view="PA", sex="F", age=ages[n % 4], source="a@b"))
    rows = load(data).rows
    assert [row.age_years for row in rows[:4]] == [36.0, 3.0, None, None]
    assert {(row.view, row.sex, row.source) for row in rows} == {("PA", "F", "a@b")}
    assert rows[0].patient == "normal/person0"


def test_a_reference_label_decides_who_is_judged(data: Path) -> None:
    better = {0: "Normal", 4: "Opacity", 10: "Other"}  # images 0 and 1 are one patient's, and so on
    rewrite(data, lambda n, line: line.update(better=better.get(n % 16, "")))
    reference = ReferenceRecipe(column="better", positive=("Opacity",), negative=("Normal",))
    loaded = load(data, msgspec.structs.replace(RECIPE, reference=reference))
    kinds = [{loaded.splits[i] for i in range(n, len(loaded.rows), 16)} for n in range(16)]
    assert kinds[0] == kinds[4] == {"validation", "test"}
    assert kinds[1] == kinds[5] == kinds[10] == kinds[11] == {None}
    others = (2, 3, 6, 7, 8, 9, 12, 13, 14, 15)
    assert set().union(*(kinds[n] for n in others)) == {"train", "calibration"}
    assert loaded.targets[4::16, 0].tolist() == [1.0] * 5
    assert loaded.targets[0::16, 0].tolist() == [0.0] * 5
    assert [n for n, row in enumerate(loaded.rows[:16]) if row.referenced] == [0, 4, 10]
    some = load(data, msgspec.structs.replace(RECIPE, reference=msgspec.structs.replace(reference, train=0.4)))
    for n in (0, 4):
        assert [some.splits[i] for i in range(n, len(some.rows), 16)].count("train") == 2


def test_masks_are_zero_and_one_and_an_image_without_one_is_left_out(data: Path) -> None:
    write_masks(data)
    loaded = load(data, findings=[], structure=STRUCTURE, side=SIDE // 2)
    assert loaded.masks is not None
    assert loaded.targets.shape == (80, 0)
    assert loaded.splits[0] is None
    assert None not in loaded.splits[1:]
    assert np.unique(loaded.masks).tolist() == [0, 1]
    assert loaded.masks[1].mean(axis=0).tolist() == [0.0] * (SIDE // 4) + [1.0] * (SIDE // 4)
    assert not loaded.masks[0].any()


def test_a_limit_takes_as_many_of_each_label(data: Path) -> None:
    loaded = load(data, msgspec.structs.replace(RECIPE, limit=50), findings=[])
    assert Counter(row.label for row in loaded.rows) == {"NORMAL": 25, "PNEUMONIA": 25}


def test_a_limit_takes_as_many_of_each_reference_label_however_many_labels_there_are(data: Path) -> None:
    better = {0: "Normal", 4: "Opacity"}
    rewrite(data, lambda n, line: line.update(better=better.get(n % 8, ""), label=f"{line['label']}|{n // 8}"))
    reference = ReferenceRecipe(column="better", positive=("Opacity",), negative=("Normal",))
    recipe = msgspec.structs.replace(RECIPE, reference=reference, limit=24)
    chosen = [int(Path(row.path).stem) for row in load(data, recipe, findings=[]).rows]
    assert Counter(better.get(number % 8, "") for number in chosen) == {"Normal": 8, "Opacity": 8, "": 8}
    assert chosen == sorted(chosen)


def kaggle_layout(data: Path, root: Path) -> None:
    """The files of ``data`` as Kaggle's chest X-ray set lays them out and names them."""
    for number, line in enumerate(lines(data)):
        patient, part = number // 2, ("train", "val", "test")[number % 3]
        if line["label"] == "NORMAL":
            name = f"{'NORMAL2-' * (patient % 4 > 1)}IM-{patient:04}-{number % 2:04}.jpeg"
        else:
            name = f"person{patient}_{'virus' if patient % 4 > 2 else 'bacteria'}_{number}.jpeg"
        picture = cv2.imread(str(data / line["path"]), cv2.IMREAD_GRAYSCALE)
        (root / part / line["label"]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / part / line["label"] / name), picture)
    (root / "train/.DS_Store").write_bytes(b"no picture")
    (root / "__MACOSX/train/NORMAL").mkdir(parents=True)
    (root / "__MACOSX/train/NORMAL/._IM-0000-0000.jpeg").write_bytes(b"no picture")
    (root / "README.txt").write_text("no picture", encoding="utf-8")


def test_the_folder_layout_of_kaggle_pools_its_folders_and_takes_patients_from_names(
    data: Path, tmp_path: Path
) -> None:
    kaggle_layout(data, tmp_path / "kaggle")
    loaded = load(tmp_path / "kaggle", msgspec.structs.replace(RECIPE, labels=None))
    assert Counter(row.label for row in loaded.rows) == {"NORMAL": 40, "PNEUMONIA": 40}
    assert len({row.patient for row in loaded.rows}) == 40
    assert {"IM-0000", "bacteria/person1", "NORMAL2-IM-0002"} <= {row.patient for row in loaded.rows}
    together: dict[str, set[str | None]] = {row.patient: set() for row in loaded.rows}
    for row, name in zip(loaded.rows, loaded.splits, strict=True):
        together[row.patient].add(name)
    assert all(len(names) == 1 for names in together.values())
    assert loaded.targets[:, 0].tolist() == [float("PNEUMONIA" in row.path) for row in loaded.rows]


def test_masks_in_a_folder_layout_lie_under_masks(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "kaggle"
    kaggle_layout(data, root)
    mask = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    for picture in sorted(root.glob("*/*/[!.]*.jpeg")):
        target = (root / "masks" / picture.relative_to(root)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), mask)
    recipe = msgspec.structs.replace(RECIPE, labels=None)
    loaded = load(root, recipe, findings=[], structure=STRUCTURE)
    assert len(loaded.rows) == 80
    assert loaded.masks is not None
    assert loaded.masks.all()


@pytest.mark.parametrize("labels", [None, "labels.csv"])
def test_dicom_files_say_themselves_who_and_what_they_show(tmp_path: Path, labels: str | None) -> None:
    root, random = tmp_path / "data", np.random.default_rng(4)
    named = ["path,label"]
    for number in range(80):
        label = "PNEUMONIA" if number % 4 >= 2 else "NORMAL"
        # A UID as a name, as archives write them: no suffix tells that it is DICOM. OsiriX's names are no patients.
        name = str(generate_uid()) if number % 3 else f"IM-0001-{number:04}.dcm"
        tags = {"PatientID": f"secret-{number // 2}", "PatientSex": "F", "ViewPosition": "PA", "PatientAge": "018M"}
        write_dicom(root / label / name, random.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16), number, **tags)
        named.append(f"{label}/{name},{label}")
    (root / "labels.csv").write_text("\n".join(named), encoding="utf-8")
    loaded = load(root, msgspec.structs.replace(RECIPE, labels=labels))
    assert len(loaded.rows) == 80
    assert len({row.patient for row in loaded.rows}) == 40
    assert {(row.view, row.sex, row.age_years) for row in loaded.rows} == {("PA", "F", 1.5)}
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert b"secret" not in kept


def test_reserved_patients_are_all_in_test(data: Path) -> None:
    (data / "reserved").mkdir()
    wanted = lines(data)[:12:2]
    for line in wanted:
        shutil.copy(data / line["path"], data / "reserved")
    text = "\n".join(",".join(line.values()) for line in wanted)
    (data / "reserved/labels.csv").write_text(f"{','.join(wanted[0])}\n{text}\n", encoding="utf-8")
    loaded = load(data, msgspec.structs.replace(RECIPE, reserved=("reserved/labels.csv",)))
    assert set(loaded.splits[:12]) == {"test"}


def test_the_shipped_split_leaks_nothing(shared: Path) -> None:
    def listed(name: str) -> list[dict[str, str]]:
        return lines(shared / "data" / name)

    rows = listed("cxr_kermany")
    patients = {(row["finding"], row["patient_id"]) for row in rows}
    assert len(patients) == 3654  # patient numbers restart between the findings
    full = {row["path"] for row in listed("cxr_full_size")}
    assert len(full) == 24
    assert full <= {Path(row["path"]).name for row in rows}
