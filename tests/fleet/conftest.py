"""A database for the manager: SQLite, and a real PostgreSQL where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from edge.fleet.database import metadata, open_database
from tests.system.conftest import await_until


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server of our own, reached over a socket in a folder: its URL. It does not run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is missing in CI: tests/install_system_packages should have installed it")
        pytest.skip("needs PostgreSQL: run tests/install_system_packages")
    programs = found[-1].parent
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    user: str | None = None
    if os.getuid() == 0:
        user = "postgres"
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    name = user or pwd.getpwuid(os.getuid()).pw_name
    subprocess.run(
        [programs / "initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--pgdata={folder}/data"],
        check=True,
        user=user,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    command = [str(programs / "postgres"), "-D", f"{folder}/data", "-k", str(folder), "-c", "listen_addresses="]
    process = subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL, cwd=folder)
    url = f"postgresql+psycopg://{name}@/postgres?host={folder}"
    engine = sql.create_engine(url)
    try:
        await_until(lambda: _answers(engine), "PostgreSQL answering")
        yield url
    finally:
        engine.dispose()
        process.send_signal(signal.SIGINT)  # a fast shutdown
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(engine: sql.Engine) -> bool:
    try:
        engine.connect().close()
    except sql.exc.OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, in both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/fleet.sqlite"
        return
    server = request.getfixturevalue("postgresql")
    yield server
    engine = sql.create_engine(server)
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[sql.Engine]:
    """The database, opened."""
    opened = open_database(url)
    yield opened
    opened.dispose()
