"""The UIDs of what is made of a result: always the same for the same, so that nothing ever has two (PS3.5 B.2)."""

from __future__ import annotations

import uuid

from pydicom.uid import UID

from edge.records import ModelUsed

_NAMESPACE = uuid.UUID("5b4e2f4c-7c0e-4f6b-9d52-6a2d7a7f0a11")


def uid_of(result_id: str, *names: str) -> UID:
    """A UID under 2.25 out of a result's id, random and one for each version, and the names of one thing."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join((result_id, *names))).int}")


def device_uid(model: ModelUsed) -> UID:
    """The Device UID of a model's version: another one when it was trained again (IHE AIR 6.5.3.1)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, f'{model.id}/{model.version}/{model.digest}').int}")
