"""One line a step with the seconds it took; on a terminal the line moves while the step runs."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

REFRESH_SECONDS = 0.2


class Step:
    """A step under way; `note` says how far it is."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._note = ""
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        self._note = text

    def line(self) -> str:
        detail = f": {self._note}" if self._note else ""
        return f"{time.monotonic() - self._began:6.1f} s  {self.title}{detail}"


class Progress:
    """Steps on a terminal or in a log; several may run at once, the youngest is shown moving."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._steps: list[Step] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step for the length of a block, and its time (or that it failed) at the end."""
        step = Step(title)
        with self._lock:
            self._steps.append(step)
        painter = self._paint_while_running(step) if self._live else contextlib.nullcontext()
        outcome = "failed"
        try:
            with painter:
                yield step
            outcome = ""
        finally:
            with self._lock:
                self._steps.remove(step)
                self._write(step.line() + (f" - {outcome}" if outcome else ""), final=True)

    @contextlib.contextmanager
    def _paint_while_running(self, step: Step) -> Iterator[None]:
        ended = threading.Event()

        def paint() -> None:
            while not ended.wait(REFRESH_SECONDS):
                with self._lock:
                    if self._steps and self._steps[-1] is step:
                        self._write(step.line(), final=False)

        painter = threading.Thread(target=paint, daemon=True)
        painter.start()
        try:
            yield
        finally:
            ended.set()
            painter.join()

    def _write(self, line: str, *, final: bool) -> None:
        # A terminal's line is cleared first, since the last text may have been longer.
        start = "\r\x1b[K" if self._live else ""
        self._stream.write(f"{start}{line}" + ("\n" if final else ""))
        self._stream.flush()


class Silent(Progress):
    """For tests: nothing is shown."""

    @staticmethod
    def quiet_step() -> Step:
        return Step("")

    def _write(self, line: str, *, final: bool) -> None:
        del line, final
