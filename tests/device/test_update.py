"""Updates from a stick, with packages that dpkg-deb builds: what is taken, what is refused, what either leaves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import __version__, signature
from edge.device.checks import Check
from edge.device.troubles import read_troubles
from edge.device.update import DOCUMENT, READY, Document, Update, UpdateRefused, judge, prepare, read, take, try_models
from tests.running import scanside

INSTALLED = "1.2.0"
KEY = Ed25519PrivateKey.generate()
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

SOFTWARE = """#!/usr/bin/env python
import sys
from edge.cli import main
sys.exit(main())
"""
"""What a package has as bin/scanside; its bin/python is this very environment's."""

Stick = Callable[..., Path]


@pytest.fixture
def stick(tmp_path: Path, program: Callable[[str], str]) -> Stick:
    """Makes a stick with a package of this version, for this machine unless said otherwise."""
    build = program("dpkg-deb")
    here = subprocess.run([program("dpkg"), "--print-architecture"], capture_output=True, text=True, check=True)

    def make(version: str = "1.10.0", architecture: str = here.stdout.strip(), name: str = "scanside") -> Path:
        tree, folder = tmp_path / f"tree-{version}", tmp_path / "stick"
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
        (tree / "DEBIAN" / "control").write_text(f"{control}Maintainer: nobody <nobody@invalid>\nDescription: test\n")
        bin_folder = tree / "opt" / "scanside" / "bin"
        bin_folder.mkdir(parents=True)
        (bin_folder / "scanside").write_text(SOFTWARE)
        (bin_folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (bin_folder / "python").chmod(0o755)
        package = tmp_path / f"scanside_{version}_{architecture}.deb"
        subprocess.run([build, "--build", tree, package], check=True, capture_output=True)
        folder.mkdir()
        prepare(package, KEY, folder)
        return folder

    return make


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the box takes it to."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def _works(_tree: Path) -> str:
    return ""


def _package(stick: Path) -> Path:
    (file,) = stick.glob("*.deb")
    return file


def _rewrite(stick: Path, **changes: object) -> None:
    """Other facts in the document, signed."""
    document = msgspec.json.decode((stick / DOCUMENT).read_bytes(), type=Document)
    text = msgspec.json.encode({**msgspec.json.decode(document.update), **changes}).decode()
    signed = Document(update=text, signature=signature.sign("scanside.update/1", text, KEY))
    (stick / DOCUMENT).write_bytes(msgspec.json.encode(signed))


def test_what_holds_is_left_for_installing_and_nothing_else(stick: Stick, place: Path) -> None:
    folder, tried = stick(), []

    def rehearse(tree: Path) -> str:
        tried.append((tree / "opt" / "scanside" / "bin" / "scanside").read_text())
        return ""

    update = take(folder, place, [OTHER, PEM], INSTALLED, rehearse)
    assert update.version == "1.10.0", "which is newer than 1.2.0 by Debian's rule"
    assert tried == [SOFTWARE]
    assert [path.name for path in place.iterdir()] == [READY]
    assert (place / READY).read_bytes() == _package(folder).read_bytes()


def test_the_version_that_runs_is_not_taken_again(stick: Stick, place: Path) -> None:
    assert take(stick(INSTALLED), place, [PEM], INSTALLED, _works).version == INSTALLED
    assert list(place.iterdir()) == []


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


BROKEN: list[tuple[str, Callable[[Path], object]]] = [
    ("no update.json on it", lambda stick: (stick / DOCUMENT).unlink()),
    ("update.json cannot be read", lambda stick: (stick / DOCUMENT).write_bytes((stick / DOCUMENT).read_bytes()[:-9])),
    ("update.json cannot be read", lambda stick: (stick / DOCUMENT).write_bytes(b" " * 20_000)),
    ("update.json cannot be read", lambda stick: (stick / DOCUMENT).write_bytes(b"[" * 16_000)),
    ("signed by no key that this box trusts", lambda stick: _change_text(stick, "1.10.0", "1.11.0")),
    ("is not what was signed", lambda stick: _flip(_package(stick), -1)),
    ("is not what was signed", lambda stick: _package(stick).write_bytes(_package(stick).read_bytes() + b"more")),
    ("is not what was signed", lambda stick: _package(stick).write_bytes(_package(stick).read_bytes()[:100])),
    ("cannot be unpacked", lambda stick: _replace(stick, b"no package")),
    ("cannot be unpacked", lambda stick: _replace(stick, _package(stick).read_bytes()[:-200])),
    ("is older than 1.2.0", lambda stick: _rewrite(stick, version="1.1.9")),
    ("is older than 1.2.0", lambda stick: _rewrite(stick, version="1.2.0~rc1")),
    ("has a form that this version does not know", lambda stick: _rewrite(stick, file="../../etc/passwd.deb")),
    ("has a form that this version does not know", lambda stick: _rewrite(stick, schema="scanside.update/2")),
    ("has a form that this version does not know", lambda stick: _rewrite(stick, size=-1)),
    ("has a form that this version does not know", lambda stick: _rewrite(stick, version="1.9; rm -r /")),
]


def _replace(stick: Path, content: bytes) -> None:
    """Other bytes in the place of the package, signed."""
    _package(stick).write_bytes(content)
    _rewrite(stick, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _change_text(stick: Path, old: str, new: str) -> None:
    (stick / DOCUMENT).write_bytes((stick / DOCUMENT).read_bytes().replace(old.encode(), new.encode()))


@pytest.mark.parametrize(("why", "breaks"), BROKEN)
def test_what_does_not_hold_is_refused_and_leaves_nothing(
    stick: Stick, place: Path, why: str, breaks: Callable[[Path], object]
) -> None:
    folder = stick()
    breaks(folder)
    with pytest.raises(UpdateRefused, match=why):
        take(folder, place, [PEM], INSTALLED, _works)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("keys", [[], [OTHER], [b"no key", OTHER]], ids=["none", "another", "one that is none"])
def test_only_keys_of_the_box_count(stick: Stick, place: Path, keys: list[bytes]) -> None:
    with pytest.raises(UpdateRefused, match="signed by no key that this box trusts"):
        take(stick(), place, keys, INSTALLED, _works)


def test_a_signature_for_something_else_is_none(stick: Stick, place: Path) -> None:
    folder = stick()
    document = msgspec.json.decode((folder / DOCUMENT).read_bytes(), type=Document)
    other = Document(update=document.update, signature=signature.sign("scanside.order/1", document.update, KEY))
    (folder / DOCUMENT).write_bytes(msgspec.json.encode(other))
    with pytest.raises(UpdateRefused, match="signed by no key that this box trusts"):
        take(folder, place, [PEM], INSTALLED, _works)


def test_a_package_for_another_processor_is_refused(stick: Stick, place: Path, program: Callable[[str], str]) -> None:
    here = subprocess.run([program("dpkg"), "--print-architecture"], capture_output=True, text=True, check=True)
    other = "amd64" if here.stdout.strip() == "arm64" else "arm64"
    with pytest.raises(UpdateRefused, match=f"it is for {other}, and this box is {here.stdout.strip()}"):
        take(stick(architecture=other), place, [PEM], INSTALLED, _works)


def test_software_that_does_not_work_here_is_refused(stick: Stick, place: Path) -> None:
    with pytest.raises(UpdateRefused, match=r"version 1\.10\.0 does not work on this box: no engine"):
        take(stick(), place, [PEM], INSTALLED, lambda _tree: "no engine")
    assert list(place.iterdir()) == []


def test_what_an_interrupted_one_has_left_is_removed(stick: Stick, place: Path) -> None:
    (place / "tried" / "opt").mkdir(parents=True)
    (place / "coming.deb").write_bytes(b"half")
    assert take(stick(), place, [PEM], INSTALLED, _works).version == "1.10.0"
    assert [path.name for path in place.iterdir()] == [READY]


def test_what_is_being_installed_is_not_touched(stick: Stick, place: Path) -> None:
    (place / READY).write_bytes(b"of before")
    with pytest.raises(UpdateRefused, match="another update is being installed"):
        take(stick(), place, [PEM], INSTALLED, _works)
    assert (place / READY).read_bytes() == b"of before"


def test_a_package_of_something_else_is_not_signed(stick: Stick) -> None:
    with pytest.raises(UpdateRefused, match="package other, must be scanside"):
        stick(name="other")


@given(content=st.binary(max_size=300) | st.from_type(Update).map(msgspec.json.encode))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_ends_otherwise_than_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DOCUMENT).write_bytes(content)
    with pytest.raises(UpdateRefused):
        read(tmp_path, [PEM])


WELL = [("model", True), ("engine onnxruntime", True), ("engine openvino", True)]


@pytest.mark.parametrize(
    ("checks", "wrong"),
    [
        (WELL * 3, ""),
        ([*WELL, ("engine openvino", False)], ""),
        ([("model", True), ("engine onnxruntime", False), ("engine openvino", False)], "no engine"),
        ([*WELL, ("engine onnxruntime", False), ("engine openvino", False)], "no engine"),
        ([*WELL, ("model", False)], "said of model"),
        ([("models", False)], "said of models"),
        ([], "no engine"),
    ],
)
def test_one_engine_must_serve_every_model(checks: list[tuple[str, bool]], wrong: str) -> None:
    said = judge(Check(name, well, f"said of {name}") for name, well in checks)
    assert said.startswith(wrong) if wrong else not said


def _configuration(folder: Path, **settings: object) -> Path:
    file = folder / "scanside.yaml"
    file.write_text(msgspec.yaml.encode({"state_dir": str(folder / "state"), **settings}).decode())
    return file


def test_the_new_software_tries_its_models_and_touches_nothing(stick: Stick, tmp_path: Path) -> None:
    """The software in the package is this one: both engines, all models, by its doctor."""
    tree = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "--extract", _package(stick()), tree], check=True)
    assert try_models(tree, _configuration(tmp_path)) == ""
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"inference": {"models": "empty"}}, "no bundle under empty"), ({"no_such_key": 1}, "no_such_key")],
)
def test_new_software_that_cannot_use_the_configuration_is_found_out(
    stick: Stick, tmp_path: Path, setting: dict[str, object], said: str
) -> None:
    tree = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "--extract", _package(stick()), tree], check=True)
    assert said in try_models(tree, _configuration(tmp_path, **setting))


def test_the_commands_from_the_package_to_the_unit_that_installs_it(stick: Stick, place: Path, tmp_path: Path) -> None:
    """`prepare` on the maker's machine, `take` on a box that trusts the key, and on one that does not."""
    package = _package(stick("99.0"))
    private = tmp_path / "private.pem"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "new").mkdir()
    _run("update", "prepare", package, "--key", private, "--to", tmp_path / "new")

    keys = tmp_path / "keys"
    keys.mkdir()
    file = _configuration(tmp_path, update_keys=str(keys))
    command = ("update", "take", tmp_path / "new", "--place", place, "--config", file)
    assert "SC712" in _run(*command, status=1)
    assert [(trouble.service, trouble.number) for trouble in read_troubles(tmp_path / "state")] == [("update", 712)]
    assert not (place / READY).exists()

    (keys / "maker.pub").write_bytes(PEM)
    assert "SC710 update 99.0 " in _run(*command)
    assert (place / READY).read_bytes() == package.read_bytes()


def test_the_version_that_runs_on_the_stick_is_no_error(stick: Stick, place: Path, tmp_path: Path) -> None:
    folder = stick(__version__)
    (tmp_path / "maker.pub").write_bytes(PEM)
    file = _configuration(tmp_path, update_keys=str(tmp_path))
    assert "SC711" in _run("update", "take", folder, "--place", place, "--config", file)
    assert read_troubles(tmp_path / "state") == []


@pytest.mark.parametrize(("result", "numbers"), [("success", []), ("exit-code", [713]), ("timeout", [713])])
def test_how_installing_ended_is_kept_for_the_page(tmp_path: Path, result: str, numbers: list[int]) -> None:
    _run("update", "end", "--config", _configuration(tmp_path), SERVICE_RESULT=result)
    assert [trouble.number for trouble in read_troubles(tmp_path / "state")] == numbers


def _run(*arguments: object, status: int = 0, **environment: str) -> str:
    """What a command has written to both outputs; its exit status must be this one."""
    done = subprocess.run(
        scanside(*map(str, arguments)),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout
