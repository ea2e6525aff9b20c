"""100,000 waiting messages from the outbox over a real Mosquitto: none lost, none doubled, and no memory for them.

`python -m benchmarks.outbox [--messages 100000]`: fills an outbox, starts the sync service as its own process with its
rate cap off, and counts at a subscriber what arrives. The peer in the same run: paho-mqtt's own queue, which holds as
many messages of the same size in memory and on no disk. Needs Mosquitto.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, summary_body
from tests.system.conftest import await_until


def main() -> None:
    """Print counts, seconds and memory of ours and of the peer. Raises `SystemExit` when anything is lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    program = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if program is None:
        raise SystemExit("mosquitto: not found: run tests/install_system_packages")
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(program, Path(folder), None, "log_type error", f"max_queued_messages {2 * count}")
        broker.start()
        _ours(broker, Path(folder), count)
        _peer(broker, count)
        broker.stop()


def _ours(broker: Mosquitto, folder: Path, count: int) -> None:
    arrived, watcher = _count(broker.port)
    sync = SyncProcess(folder, port=broker.port, health_interval_seconds=3600)
    sync.start()
    sync.wait_for("SC500")
    idle = _memory(sync.program.process.pid)
    sync.kill()
    begun = time.monotonic()
    ids = [name for _ in range(count // 1000) for name in sync.put(1000)]
    print(f"{len(ids)} messages put in {time.monotonic() - begun:.1f} s, {_size(sync):.0f} MB on the disk")
    sync.start()
    sync.wait_for("SC500")
    begun, most = time.monotonic(), 0.0
    while sync.outbox.depth().rows:
        most = max(most, _memory(sync.program.process.pid))
        time.sleep(0.2)
    took = time.monotonic() - begun
    await_until(lambda: len(arrived) >= len(ids), "all at the subscriber")
    cpu = _cpu(sync.program.process.pid)
    doubled = sum(arrived.values()) - len(arrived)
    lost = len(set(ids) - set(arrived))
    print(f"drained in {took:.1f} s ({count / took:.0f}/s, {cpu:.1f} s of CPU); lost {lost}, doubled {doubled}")
    print(f"memory of its own: {idle:.1f} MB idle, {most:.1f} MB at most while draining")
    sync.close()
    watcher.disconnect()
    watcher.loop_stop()
    if lost:
        raise SystemExit(f"{lost} messages are lost")


def _peer(broker: Mosquitto, count: int) -> None:
    """Paho as it comes, in this process: its queue is what it is given before it is connected."""
    before = _memory("self")
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    for number in range(count):
        client.publish(f"{PREFIX}inference/find/peer/{number}", summary_body(f"{number:032x}"), qos=1)
    print(f"peer: paho's queue with as many: {_memory('self') - before:.1f} MB in memory, and gone with the process")
    begun = time.monotonic()
    client.connect("127.0.0.1", broker.port)
    while client._out_messages:
        client.loop(0.1)
    print(f"peer: drained in {time.monotonic() - begun:.1f} s")
    client.disconnect()


def _count(port: int) -> tuple[Counter[str], paho.Client]:
    """How often each summary arrives, by its id, counted while the client lives."""
    arrived: Counter[str] = Counter()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="counter", protocol=paho.MQTTv5)
    client.on_message = lambda _client, _data, message: arrived.update((message.topic.rpartition("/")[2],))
    client.connect("127.0.0.1", port)
    client.subscribe(f"{PREFIX}inference/find/image/+", 1)
    client.loop_start()
    return arrived, client


def _memory(process: int | str) -> float:
    """MB of its own memory (proc(5))."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def _cpu(process: int) -> float:
    """Seconds of CPU time that it has taken (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _size(sync: SyncProcess) -> float:
    folder = sync.state_dir / "outbox"
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6


if __name__ == "__main__":
    main()
