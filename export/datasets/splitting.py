"""Who goes where: no patient and no identical image stands in two splits."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from export.datasets.records import SPLITS, Split

_FITTED: tuple[Split, ...] = ("train", "calibration")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What decides where an image goes."""

    path: str
    patient: str
    content: str
    """Equal for identical images."""
    stratum: str
    """The shares are kept within each stratum: the label."""
    used: bool = True
    """False: left out, though it still ties its patient's images and its duplicates together."""
    referenced: bool = False
    """It carries the better label that validation and test are judged by."""


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Which share of the images goes where."""

    everyone: Mapping[Split, float]
    """Of all images, where none is referenced; of the others' training and calibration, where some are."""
    referenced: Mapping[Split, float]
    """Of the referenced images."""


def split(
    images: Sequence[Candidate], *, reserved: Collection[str], shares: Shares, seed: int
) -> tuple[Split | None, ...]:
    """Assigns each image to a split, or leaves it out (None).

    Images that share a patient or their content form a group; the groups of each stratum, in an order drawn from
    ``seed``, are dealt out by ``shares``. Groups with a patient in ``reserved`` are test. Where some images are
    referenced, their groups are dealt by shares of their own, and only their referenced images are used; all other
    groups are dealt to train and calibration.
    """
    groups: dict[int, list[Candidate]] = defaultdict(list)
    for image, group in zip(images, _connected([(image.patient, image.content) for image in images]), strict=True):
        groups[group].append(image)
    any_referenced = any(image.referenced for image in images)
    decks: dict[tuple[bool, str], list[list[Candidate]]] = defaultdict(list)
    chosen: dict[str, Split] = {}
    for group_images in groups.values():
        referenced = any(image.referenced for image in group_images)
        used = [image for image in group_images if image.used and image.referenced == referenced]
        if not used:
            continue
        if any(image.patient in reserved for image in group_images):
            judged = referenced or not any_referenced
            chosen |= dict.fromkeys((image.path for image in used if judged), "test")
        else:
            decks[referenced, min(used, key=lambda image: image.path).stratum].append(used)
    others = {place: shares.everyone[place] for place in (_FITTED if any_referenced else SPLITS)}
    for (referenced, _), deck in decks.items():
        chosen |= _deal(deck, shares.referenced if referenced else others, seed)
    return tuple(chosen.get(image.path) for image in images)


def draw(seed: int, name: str) -> str:
    """A random place in an order, the same for the same seed and name, whatever else is in the list."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _deal(deck: Sequence[Sequence[Candidate]], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    ordered = sorted(deck, key=lambda images: draw(seed, min(image.path for image in images)))
    bounds, places = np.cumsum(list(shares.values())), list(shares)
    dealt: dict[str, Split] = {}
    for rank, images in enumerate(ordered):
        place = int(np.searchsorted(bounds, (rank + 0.5) / len(ordered) * bounds[-1]))
        dealt |= dict.fromkeys((image.path for image in images), places[min(place, len(places) - 1)])
    return dealt


def _connected(keys: Sequence[tuple[str, str]]) -> list[int]:
    """Group number of each item; items with an equal patient or an equal content are in one group (union-find)."""
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    seen: dict[tuple[int, str], int] = {}
    for item, key in enumerate(keys):
        for kind, value in enumerate(key):
            other = seen.setdefault((kind, value), item)
            parent[root(item)] = root(other)
    return [root(item) for item in range(len(keys))]
