"""Child processes that start in an order, end in the reverse of it, and do not outlive this one."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 4.0  # seconds that a child has to finish, and then to stop
TAIL_LINES = 20
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildFailed(Exception):
    """A child ended by itself, or never answered. The message names it and ends with the last lines of its log."""


class Stopped(Exception):
    """Somebody asked this process to end."""


class Child:
    """One process with its log. It has a session of its own, so that Ctrl-C reaches it through us, in our order."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, fds: Sequence[int] = ()) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=fds,
                preexec_fn=_end_with_the_parent,  # noqa: PLW1509 - started before any thread
            )

    def failure(self, what: str) -> ChildFailed:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return ChildFailed("\n".join([f"The {self.name} {what}. The end of {self.log}:", *lines]))

    def stop(self) -> None:
        """Ask it to finish, then to stop at once; then end whatever is left of its session."""
        for number in (signal.SIGTERM, signal.SIGQUIT):
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
                break
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """The children of this process, as a context.

    Inside it, a child's end raises ChildFailed and a signal to end raises Stopped, wherever the program is: no loop
    has to look. Leaving it stops all children, the youngest first.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._silent: list[tuple[Child, Callable[[], bool]]] = []

    def __enter__(self) -> Self:
        handlers = dict.fromkeys(STOPPING, self._stop) | {signal.SIGCHLD: self._look}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
        for child in reversed(self._children):
            child.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, child: Child, answers: Callable[[], bool]) -> None:
        self._children.append(child)
        self._silent.append((child, answers))

    def wait(self, seconds: float = 60.0) -> None:
        """Until every child that was started answers. ChildFailed after ``seconds``, or as soon as any child ends."""
        deadline = time.monotonic() + seconds
        while self._silent:
            child, answers = self._silent[0]
            self._look()
            if answers():
                self._silent.pop(0)
            elif time.monotonic() > deadline:
                raise child.failure(f"did not answer within {seconds:.0f} seconds")
            else:
                time.sleep(0.1)

    def watch(self) -> None:
        """Until one of the children, or somebody, ends this."""
        while True:
            self._look()
            time.sleep(1)

    def _look(self, number: int = 0, frame: FrameType | None = None) -> None:
        for child in self._children:
            if (status := child.process.poll()) is not None:
                raise child.failure(f"stopped by itself (exit status {status})")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        raise Stopped


def _end_with_the_parent() -> None:
    """Where the kernel can, have this child told to end when its parent is killed outright."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
