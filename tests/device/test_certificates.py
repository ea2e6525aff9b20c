"""Certificates that are about to expire are told of: once a day in the log, and by `scanside doctor`."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from edge.config import Config, Dicom, DicomTls, Intake, Mqtt
from edge.device.certificates import ExpiryWatch, days_left
from edge.doctor import check_certificates
from tests.intake.certificates import Authority

DAY = 86400.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Valid for a day from now."""
    return Authority(tmp_path_factory.mktemp("tls")).issue("box").certificate


@pytest.mark.parametrize(("days_ago", "left"), [(0, 1), (40, 41), (-3, -2)])
def test_the_days_that_are_left(certificate: Path, days_ago: float, left: float) -> None:
    assert days_left(certificate, time.time() - days_ago * DAY) == pytest.approx(left, abs=0.1)


def test_a_file_with_several_ends_with_the_first(certificate: Path, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.read_bytes() * 2)
    assert days_left(chain, time.time()) == pytest.approx(1, abs=0.1)


def test_it_is_told_once_a_day_from_30_days_on(certificate: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scanside")
    now = [time.time() - 30 * DAY]  # 31 days are left
    watch = ExpiryWatch(certificate, lambda: now[0])
    told = []
    for hours in (0, 23, 2, 1, 24, 24 * 30):
        now[0] += hours * 3600
        watch.look()
        told.append(len(caplog.records))
    assert told == [0, 0, 1, 1, 2, 3]
    assert "expires in 30 days" in caplog.text
    assert f"SC701 the certificate {certificate}" in caplog.text


@pytest.mark.parametrize("file", [None, Path("/none/at/all.pem"), Path(__file__)])
def test_without_a_certificate_nothing_is_told(file: Path | None, caplog: pytest.LogCaptureFixture) -> None:
    ExpiryWatch(file, time.time).look()
    assert not caplog.records


def test_the_doctor_names_each_certificate(certificate: Path, tmp_path: Path) -> None:
    tls = DicomTls(certificate_file=certificate, key_file=certificate)
    mqtt = Mqtt(host="broker", certificate_file=tmp_path / "missing.pem")
    config = Config(state_dir=tmp_path, intake=Intake(dicom=Dicom(tls=tls)), mqtt=mqtt)
    soon, missing = check_certificates(config, time.time())
    assert (soon.well, soon.said) == (False, f"{certificate} expires in 1 days: put a new one in place")
    assert (missing.well, "missing.pem: No such file" in missing.said) == (False, True)
    early, _ = check_certificates(config, time.time() - 40 * DAY)
    assert (early.well, early.said) == (True, f"{certificate} expires in 41 days")
    assert not list(check_certificates(Config(), time.time()))
