from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from export.datasets import SPLITS, Split
from export.datasets.splitting import Candidate, Shares, split

EVERYONE: dict[Split, float] = {"train": 0.6, "validation": 0.2, "calibration": 0.1, "test": 0.1}
SHARES = Shares(everyone=EVERYONE, referenced={"train": 0.0, "validation": 2 / 3, "test": 1 / 3})

# Patient, content, label, whether used, whether it carries the reference label.
Drawn = tuple[int, int, bool, bool, bool]
images = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 25), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=60,
)


def candidates(drawn: Sequence[Drawn], *, referenced: bool) -> list[Candidate]:
    return [
        Candidate(
            path=f"{n}.png",
            patient=str(who),
            content=str(content),
            stratum=str(label),
            used=used,
            referenced=referenced and better,
        )
        for n, (who, content, label, used, better) in enumerate(drawn)
    ]


@given(images, st.sets(st.integers(0, 12)), st.integers(0, 9), st.booleans())
def test_no_patient_and_no_content_stands_in_two_splits(
    drawn: list[Drawn], reserved: set[int], seed: int, referenced: bool
) -> None:
    given = candidates(drawn, referenced=referenced)
    splits = split(given, reserved={str(who) for who in reserved}, shares=SHARES, seed=seed)
    of_patient, of_content = defaultdict(set), defaultdict(set)
    for image, name in zip(given, splits, strict=True):
        assert image.used or name is None
        if name is not None:
            of_patient[image.patient].add(name)
            of_content[image.content].add(name)
    assert all(len(names) == 1 for names in (*of_patient.values(), *of_content.values()))
    assert all(of_patient[str(who)] <= {"test"} for who in reserved)
    if not referenced:
        assert all((name is None) == (not image.used) for image, name in zip(given, splits, strict=True))


@given(images, st.integers(0, 9))
def test_only_referenced_images_are_judged_and_their_patients_are_not_trained_on(drawn: list[Drawn], seed: int) -> None:
    given = candidates([*drawn, (99, 99, True, True, True)], referenced=True)
    splits = split(given, reserved=(), shares=SHARES, seed=seed)
    patients = {image.patient for image in given if image.referenced}
    for image, name in zip(given, splits, strict=True):
        assert name is None or (name in ("validation", "test")) == image.referenced
        if image.patient in patients and not image.referenced:
            assert name is None


def test_referenced_images_have_shares_of_their_own_and_the_others_are_trained_on() -> None:
    given = candidates([(n, n, n % 2 == 0, True, n < 100) for n in range(1100)], referenced=True)
    splits = split(given, reserved=(), shares=SHARES, seed=3)
    assert [splits.count(name) for name in SPLITS] == [858, 66, 142, 34]  # 6 : 1 of 1000, 2 : 1 of 100
    some: dict[Split, float] = {"train": 0.4, "validation": 0.2, "test": 0.4}
    splits = split(given, reserved=(), shares=Shares(everyone=EVERYONE, referenced=some), seed=3)
    of_reference = [name for each, name in zip(given, splits, strict=True) if each.referenced]
    assert [of_reference.count(name) for name in SPLITS] == [40, 20, 0, 40]


@given(st.permutations(range(30)))
def test_the_split_does_not_depend_on_the_order_of_the_file(order: list[int]) -> None:
    given = candidates([(n // 2, n, n % 2 == 0, True, False) for n in range(30)], referenced=False)
    plain = dict(zip([each.path for each in given], split(given, reserved=(), shares=SHARES, seed=5), strict=True))
    mixed = [given[n] for n in order]
    assert split(mixed, reserved=(), shares=SHARES, seed=5) == tuple(plain[each.path] for each in mixed)


def test_shares_are_kept_for_each_label() -> None:
    given = candidates([(n, n, n < 100, True, False) for n in range(1000)], referenced=False)
    splits = split(given, reserved=(), shares=SHARES, seed=1)
    for label, count in (("True", 100), ("False", 900)):
        found = [name for each, name in zip(given, splits, strict=True) if each.stratum == label]
        assert [found.count(name) for name in SPLITS] == [round(count * EVERYONE[name]) for name in SPLITS]
