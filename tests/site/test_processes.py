"""Children that start in order, end in reverse order, and leave nothing behind. Real processes throughout."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interp_site.local.processes import Child, ChildFailed, Children, Stopped

WAIT = "import time; time.sleep(60)"
STUBBORN = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 3, 15)]; print('deaf', flush=True)\n"
PARENT = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"


def child(tmp_path: Path, name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def start(children: Children, child: Child, answers: Callable[[], bool] = lambda: True, seconds: float = 10) -> None:
    children.start(child, answers)
    children.wait(seconds)


def has_said(child: Child) -> Callable[[], bool]:
    return lambda: child.log.read_text().endswith("\n")


def is_gone(pid: int, seconds: float = 5) -> bool:
    """Within ``seconds``: what was killed is gone a moment later. A zombie is gone."""
    status, deadline = Path(f"/proc/{pid}/status"), time.monotonic() + seconds
    while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not status.exists() or "State:\tZ" in status.read_text()


def test_children_end_the_youngest_first_and_with_their_own_children(tmp_path: Path) -> None:
    tell = f"import signal, time, sys; signal.signal(15, lambda *_: (open({str(tmp_path / 'ends')!r}, 'a').write"
    parent = child(tmp_path, "parent", PARENT)
    with Children() as children:
        start(children, parent, has_said(parent))
        for name in ("first", "second"):
            started = child(tmp_path, name, f"{tell}('{name}\\n'), sys.exit())); print('up', flush=True); {WAIT}")
            start(children, started, has_said(started))
    assert (tmp_path / "ends").read_text() == "second\nfirst\n"
    assert is_gone(int(parent.log.read_text()))


def test_one_that_will_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp_site.local.processes.PATIENCE", 0.2)
    deaf = child(tmp_path, "deaf", STUBBORN + WAIT)
    with Children() as children:
        start(children, deaf, has_said(deaf))
    assert deaf.process.returncode == -signal.SIGKILL


def test_one_that_fails_at_the_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Children() as children, pytest.raises(ChildFailed) as failed:
        start(children, child(tmp_path, "web", "print(*range(99), sep='\\n'); exit(3)"), lambda: False)
    lines = str(failed.value).splitlines()
    assert lines[0] == f"The web stopped by itself (exit status 3). The end of {tmp_path / 'web.log'}:"
    assert lines[1:] == [str(n) for n in range(79, 99)]


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    silent = child(tmp_path, "worker", WAIT)
    with pytest.raises(ChildFailed, match=r"^The worker did not answer within 0 seconds"), Children() as children:
        start(children, silent, lambda: False, 0.2)
    assert silent.process.returncode == -signal.SIGTERM


def test_a_death_interrupts_whatever_goes_on(tmp_path: Path) -> None:
    with Children() as children, pytest.raises(ChildFailed, match=r"^The worker stopped by itself"):
        start(children, child(tmp_path, "worker", "import time; time.sleep(0.3)"))
        time.sleep(30)


def test_the_end_of_another_process_is_no_death(tmp_path: Path) -> None:
    with Children() as children:
        start(children, child(tmp_path, "worker", WAIT))
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_old_handlers_come_back(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number), signal.getsignal(signal.SIGCHLD)
    waiting = child(tmp_path, "worker", WAIT)
    with pytest.raises(Stopped), Children() as children:
        start(children, waiting)
        os.kill(os.getpid(), number)
    assert waiting.process.returncode is not None
    assert (signal.getsignal(number), signal.getsignal(signal.SIGCHLD)) == before
