"""A soramoded of a test: the program that $SORAMODED names."""

import os
import signal
import subprocess
import tempfile
from types import TracebackType
from typing import Self


class Daemon:
    def __init__(self, *flags: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.socket = f"{self.folder.name}/soramode.sock"
        self.flags = flags or ("--state-dir", f"{self.folder.name}/state")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        self.folder.cleanup()

    def start(self) -> None:
        command = [os.environ["SORAMODED"], "--socket", self.socket, *self.flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Ends it in order, and starts it again."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        self.process.wait()
        self.start()

    def kill_and_start(self) -> None:
        self.kill()
        self.start()
