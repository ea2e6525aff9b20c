"""Results as the inference service would commit them, for hand and tests; pictures are synthetic."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import cv2
import numpy as np

from edge.device.health import ModelInService
from edge.inference.explanation import encode_explanation, overlay_png
from edge.records import (
    Arrival,
    Finding,
    Level,
    ModelUsed,
    Priority,
    QualityFinding,
    Reason,
    Result,
    Status,
    StoredResult,
    Subject,
    Timings,
)
from edge.store import Store

MODEL = ModelUsed(
    id="cxr-pneumonia-paediatric",
    version="1.0.0",
    digest="sha256:" + "0f" * 32,
    engine="openvino",
    precision="int8",
)
IN_SERVICE = tuple(
    ModelInService(
        id=name, version="1.0.0", digest="sha256:0f", engine="openvino", experimental=experimental, median_ms=11.9
    )
    for name, experimental in (("cxr-pneumonia-paediatric", False), ("cxr-opacity-adult", True))
)
CUT_OFF = QualityFinding(
    check="lung_cut_off",
    level=Level.WARN,
    code="111209",
    scheme="DCM",
    message="Right lower lung is cut off: consider repeating",
)
CHILD = Subject(patient_id="PAT-000417", sex="F", age_years=3.2, modality="DX", body_part="CHEST", view="PA")

_number = itertools.count(1)


def finding(probability: float, threshold: float = 0.62) -> Finding:
    """Pneumonia."""
    return Finding(
        code="233604007",
        scheme="SCT",
        meaning="Pneumonia",
        score=probability,
        probability=probability,
        threshold=threshold,
        flagged=probability >= threshold,
        box=None,
    )


def flagged(probability: float = 0.941, **changes: Any) -> Result:
    """A flagged, urgent result."""
    return result(Status.FLAGGED, **({"findings": (finding(probability),), "priority": Priority.URGENT} | changes))


def clear(**changes: Any) -> Result:
    """A result below the threshold."""
    return result(Status.CLEAR, **({"findings": (finding(0.08),)} | changes))


def indeterminate(**changes: Any) -> Result:
    """A result in the band below the threshold."""
    return result(Status.INDETERMINATE, **({"findings": (finding(0.55),)} | changes))


def not_analysed(reason: Reason = Reason.LATERAL_VIEW, **changes: Any) -> Result:
    """A refused image."""
    return result(Status.NOT_ANALYSED, reason=reason, model=None, **changes)


def result(status: Status, **fields: Any) -> Result:
    """Any result."""
    defaults: dict[str, Any] = {
        "source": "dicom",
        "sop_instance_uid": f"2.25.{uuid.uuid4().int}",
        "reason": None,
        "priority": Priority.ROUTINE,
        "model": MODEL,
        "timings_ms": Timings(decode=8.1, prepare=2.0, infer=11.9, explain=0.4, total=24.0),
    }
    return Result(status=status, **(defaults | fields))


def commit(store: Store, answer: Result, subject: Subject = CHILD, *, pictures: bool = True) -> StoredResult:
    """Take one image the whole way through the store; its pictures lie there before the result."""
    number = next(_number)
    arrival = Arrival(source="dicom", peer="MODALITY", sop_instance_uid=answer.sop_instance_uid)
    store.accept(uuid.uuid4().bytes, arrival)
    instance = store.claim()
    assert instance is not None
    if pictures:
        store.write_picture(instance.id, "preview.jpg", preview(number))
        if answer.findings:
            store.write_picture(instance.id, "overlay.png", overlay())
    return store.commit(instance, answer, subject)


def preview(seed: int = 1, rows: int = 720, columns: int = 640) -> bytes:
    """A grey JPEG that vaguely resembles a chest: two dark ovals, a bright spine, grain."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = x / columns - 0.5, y / rows - 0.5
    body = 150 * np.exp(-((x / 0.42) ** 6) - ((y / 0.62) ** 8))
    lungs = sum(np.exp(-(((x - side) / 0.13) ** 2) - (((y + 0.03) / 0.27) ** 2)) for side in (-0.2, 0.2))
    spine = 70 * np.exp(-((x / 0.05) ** 2))
    heart = 60 * np.exp(-(((x - 0.06) / 0.14) ** 2) - (((y - 0.14) / 0.14) ** 2))
    ribs = 9 * np.sin((y + 0.6 * np.abs(x)) * 75) * lungs
    grain = np.random.default_rng(seed).normal(0, 4, (rows, columns))
    grey = np.clip(body + spine + heart - 115 * lungs + ribs + grain + 12, 0, 255).astype(np.uint8)
    cv2.putText(grey, "SYNTHETIC", (12, rows - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 230, 2)
    return _encode(".jpg", grey)


def overlay(size: int = 512) -> bytes:
    """As the inference service draws it, around one spot."""
    cam = np.full((7, 7), -1.0, dtype=np.float32)
    cam[4, 2] = 2.0
    return overlay_png(encode_explanation({"233604007": cam}, None), size, size)


def _encode(kind: str, picture: Any) -> bytes:
    written, encoded = cv2.imencode(kind, picture)
    assert written
    return bytes(encoded)
