"""A radiograph from the modality to the PACS, through the whole appliance."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from tests.reporting import samples
from tests.reporting.peers import EVERYTHING, pacs
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until, free_port


@pytest.mark.system
def test_from_the_modality_to_the_pacs(tmp_path: Path, program: Callable[[str], str]) -> None:
    image, port = tmp_path / "image.dcm", free_port()
    image.write_bytes(dx_file(radiograph(Kind.OPACITY, 1, 640, 512), seed=1))
    with pacs() as peer:
        settings = {
            "state_dir": str(tmp_path / "state"),
            "intake": {"dicom": {"port": port}},
            "inference": {"image_seconds": 30},  # on a busy machine no image is given up for being slow
            "web": {"port": free_port()},
            "reporting": {"destinations": [{"name": "pacs", "port": peer.port, "segmentation": True}]},
        }
        file = tmp_path / "scanside.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        with RunningProgram(scanside("run", "--config", str(file))) as appliance:
            appliance.wait_for("SC101")
            command = [program("storescu"), "-aec", "SCANSIDE", "127.0.0.1", str(port), str(image)]
            subprocess.run(command, check=True)
            await_until(lambda: EVERYTHING[0] in dict(peer.received), "the report in the PACS")
            appliance.stop()
    source = samples.read(image.read_bytes())
    sent = dict(peer.received)
    assert EVERYTHING[2] in sent, "the picture, and before the report"
    assert list(sent).index(EVERYTHING[2]) < list(sent).index(EVERYTHING[0])
    (report,) = peer.objects[sent[EVERYTHING[0]]]
    assert str(source.StudyInstanceUID).encode() in report
    assert str(source.SOPInstanceUID).encode() in report
    assert b"cxr-pneumonia-paediatric" in report and b"operating point: " in report
