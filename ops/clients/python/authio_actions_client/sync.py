"""The client for threads: the same one, on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar

from .aio import AsyncClient
from .outcome import Answer

_T = TypeVar("_T")


class Client:
    """Asks the fleet about auth events, from any thread; one for a process.

    The arguments are those of ``AsyncClient``. Use it as ``with Client(url) as client``.
    """

    def __init__(self, url: str, *, listen_url: str | None = None, connections: int = 4) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="authio-actions", daemon=True)
        self._arguments: dict[str, Any] = {"listen_url": listen_url, "connections": connections}
        self._url = url
        self._client: AsyncClient | None = None

    def __enter__(self) -> Client:
        self._thread.start()
        try:
            self._client = self._do(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening and closes the connections."""
        if self._client is not None:
            self._do(self._client.close())
            self._client = None
            self._stop()

    def invoke(
        self, project_id: str, trigger: str, event: Mapping[str, Any], *, event_id: str | None = None, trace_parent: str | None = None
    ) -> Answer:
        """Reports an auth event and returns its one final outcome; see ``AsyncClient.invoke``."""
        if self._client is None:
            raise RuntimeError("the client is closed; use it within: with Client(url) as client")
        return self._do(self._client.invoke(project_id, trigger, event, event_id=event_id, trace_parent=trace_parent))

    async def _open(self) -> AsyncClient:
        return await AsyncClient(self._url, **self._arguments).__aenter__()

    def _do(self, task: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
