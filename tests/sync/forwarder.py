"""A way between a box and its broker that can withhold what the broker answers, and break. TLS goes through whole."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread


class Forwarder:
    """Passes bytes on between whoever connects to `port` and a broker on this machine."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._answers_pass = Event()
        self._answers_pass.set()
        self._ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = Thread(target=self._accept)
        self._thread.start()

    def withhold(self) -> None:
        """From now on the broker hears all and is not heard: no acknowledgement arrives."""
        self._answers_pass.clear()

    def release(self) -> None:
        """What was withheld arrives, and all else too."""
        self._answers_pass.set()

    def cut(self) -> None:
        """Both sides see their connection end; what was withheld is gone. The next connection is whole."""
        for end in self._ends:
            with suppress(OSError):  # it has ended already
                end.shutdown(socket.SHUT_RDWR)
        self.release()

    def close(self) -> None:
        """Cut, and let nobody in again."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        self.cut()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                box, _ = self._server.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._broker_port))
            self._ends += [box, broker]
            Thread(target=self._pass, args=(box, broker), daemon=True).start()
            Thread(target=self._pass, args=(broker, box, self._answers_pass), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, open_: Event | None = None) -> None:
        with suppress(OSError):  # it was cut
            while data := source.recv(1 << 16):
                if open_:
                    open_.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
