"""A broker for the demo, on loopback: Mosquitto when it is installed, else the embedded amqtt (MQTT 3.1.1 only)."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ScansideError

START_WITHIN = 20.0

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type none
"""


ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
"""Before a command: however this process ends, the other is asked to stop (util-linux, prctl(2) PR_SET_PDEATHSIG)."""


@contextmanager
def embedded_broker(port: int) -> Iterator[str]:
    """Run a broker on 127.0.0.1 while the context lasts; gives its name for people (`Mosquitto`, `amqtt`).

    Raises:
        ScansideError: The port is taken, no broker is installed, or it did not accept connections within 20 s.
    """
    _require_free(port)
    with tempfile.TemporaryDirectory(prefix="scanside-broker-") as folder:
        name, command = _command(port, Path(folder))
        process = subprocess.Popen([*ENDS_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _wait(process, name, port)
            yield name
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(port: int, folder: Path) -> tuple[str, list[str]]:
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if mosquitto is None:
        return "amqtt", [sys.executable, "-m", "edge.demo.broker", str(port)]
    file = folder / "mosquitto.conf"
    file.write_text(_MOSQUITTO.format(port=port), encoding="ascii")
    return "Mosquitto", [mosquitto, "-c", str(file)]


def _require_free(port: int) -> None:
    """A connection to a port that somebody else holds would look like a broker that is ready."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ScansideError(f"port {port} on 127.0.0.1: {error.strerror}: give a free one") from error


def _wait(process: subprocess.Popen[bytes], name: str, port: int) -> None:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ScansideError(
                f"{name} ended with exit status {process.returncode}: where Mosquitto is not installed, amqtt must be"
                " (pip install 'scanside[demo]')"
            )
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ScansideError(
        f"{name} does not accept connections on 127.0.0.1:{port} after {START_WITHIN:.0f} s: start it by hand"
    )


async def _run_amqtt(port: int) -> None:
    from amqtt.broker import Broker  # noqa: PLC0415 - an optional dependency

    logging.disable()  # it reports every visitor; the demo's terminal tells a story
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run_amqtt(int(sys.argv[1])))
