"""What is opened in steps and closed in the reverse order, also when a step fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Opened(ABC):
    """`async with`: `_start` takes the steps, and leaves on `_stack` what undoes each."""

    _stack: AsyncExitStack

    @abstractmethod
    async def _start(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
