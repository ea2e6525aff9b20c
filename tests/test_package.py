"""What the Debian package is made of: lock file, bill of materials, scripts. `make prove-deb` proves the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement

from edge import __version__
from edge.config_section import Language
from tests.conftest import ROOT

PACKAGE = ROOT / "package"
LOCK = PACKAGE / "requirements.lock"
SCRIPTS = ["preinst", "postinst", "prerm", "postrm", "as_service"]


def _pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(encoding="ascii"), re.MULTILINE))


def test_what_the_device_needs_is_locked_within_its_range_and_nothing_of_the_export_stage_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = _pinned()
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert pinned[wanted.name] in wanted.specifier, f"{wanted.name}: run package/update_lock"
    extras = {Requirement(text).name for each in project["optional-dependencies"].values() for text in each}
    assert not (extras - {Requirement(text).name for text in project["dependencies"]}) & set(pinned)


def test_each_archive_is_known_by_its_hash() -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK.read_text(encoding="ascii"), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(_pinned()) > 30
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


def test_the_bill_of_materials_names_all_and_no_licence_that_may_not_be_passed_on() -> None:
    command = [sys.executable, str(PACKAGE / "sbom.py"), str(LOCK), "1.2.3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["version"]) == (
        "CycloneDX",
        "1.6",
        "1.2.3",
    )
    assert {each["name"]: each["version"] for each in bill["components"]} == _pinned()
    assert all(each["hashes"] and each["licenses"][0]["license"]["name"] for each in bill["components"])


def test_a_licence_that_may_not_be_passed_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strange-1.dist-info").mkdir()
    about = "Metadata-Version: 2.1\nName: strange\nVersion: 1\nLicense-Expression: AGPL-3.0-only\n"
    (tmp_path / "strange-1.dist-info" / "METADATA").write_text(about, encoding="ascii")
    (tmp_path / "lock").write_text(f"strange==1 \\\n    --hash=sha256:{'0' * 64}\n", encoding="ascii")
    command = [sys.executable, str(PACKAGE / "sbom.py"), str(tmp_path / "lock"), "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "strange: AGPL-3.0-only" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_posix_shell(script: str) -> None:
    subprocess.run(["sh", "-n", str(PACKAGE / "debian" / script)], check=True)
    assert "\nset -e\n" in (PACKAGE / "debian" / script).read_text(encoding="ascii")


def test_the_package_keeps_the_languages_that_the_page_speaks() -> None:
    """By the line of `build_deb` itself: without any of them no page is shown."""
    (line,) = re.findall(r"^kept=.*$", (PACKAGE / "build_deb").read_text(encoding="ascii"), re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", f'{line}; echo "$kept"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().split("|") == list(get_args(Language))


def test_the_page_for_installing_is_followed_whole() -> None:
    """Each block of it is run by `prove`, or left out with a reason; it names the package that is built."""
    _, _, rest = (PACKAGE / "README.md").read_text(encoding="utf-8").partition("\n## Install on a device\n")
    page, _, _ = rest.partition("\n## ")
    blocks = re.findall(r"^```(.*)\n([^`]*)^```$", page, re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"sh", "sh left-out"}
    for kind, script in (("sh", "run"), ("sh left-out", "left-out")):
        written = "".join(block for name, block in blocks if name == kind)
        followed = subprocess.run([PACKAGE / "page", script], capture_output=True, text=True, check=True).stdout
        assert followed == written
        subprocess.run(["bash", "-n"], input=written, text=True, check=True)
    assert f"sudo dpkg --install scanside_{__version__}_amd64.deb\n" in page


@pytest.mark.parametrize("script", ["build_image", "image/add_esp", "image/mkosi.postinst"])
def test_scripts_of_the_image_can_be_read(script: str) -> None:
    subprocess.run(["bash", "-n", str(PACKAGE / script)], check=True)
    assert (PACKAGE / script).stat().st_mode & 0o111


def test_the_image_s_data_partition_is_the_one_that_is_mounted(program: Callable[[str], str], tmp_path: Path) -> None:
    """By systemd-repart's own reading of the definition, for a disk of 8 GB."""
    where = ["--definitions", str(PACKAGE / "image" / "tree" / "usr" / "lib" / "repart.d")]
    disk = ["--empty=force", "--dry-run=yes", "--json=short", str(tmp_path / "disk")]
    with (tmp_path / "disk").open("wb") as empty:
        empty.truncate(8 << 30)
    done = subprocess.run([program("systemd-repart"), *where, *disk], capture_output=True, text=True, check=True)
    (planned,) = json.loads(done.stdout)
    mounted = (ROOT / "firmware_config" / "fstab").read_text(encoding="ascii")
    assert f"\nLABEL={planned['label']}  /var/lib/scanside " in mounted
    assert planned["raw_size"] > 7 << 30, "all that is left of the disk"


def test_the_services_that_every_box_has_are_enabled_and_no_other() -> None:
    preset = (ROOT / "systemd" / "scanside.preset").read_text(encoding="ascii").splitlines()
    enabled = {line.removeprefix("enable ") for line in preset if line.startswith("enable ")}
    services = {f"scanside-{name}.service" for name in ("intake", "inference", "web")}
    assert enabled == {"scanside.target", "update-scanside.path", *services}
    assert preset[-1] == "disable scanside-*.service", "the first line that fits counts (systemd.preset(5))"
    postinst = (PACKAGE / "debian" / "postinst").read_text(encoding="ascii")
    assert {*re.findall(r"systemctl preset (.*)", postinst)[0].split()} == enabled
