"""The client for asyncio."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from .ids import new_event_id
from .outcome import Answer, Outcome
from .protocol import (
    ABANDON,
    BATCH,
    EARLY,
    ENQUEUE_MANY,
    FIRST_PAUSE_S,
    GRACE_S,
    LONGEST_PAUSE_S,
    PATIENCE_S,
    RESULTS,
    SILENCE_S,
    ActionsError,
    ReplyTo,
    answer,
)

_log = logging.getLogger(__name__)

_Row = tuple[Any, ...]


class _Ask(NamedTuple):
    """An event to report, and who wants the row of enqueue."""

    request: dict[str, Any]
    row: asyncio.Future[_Row]


class AsyncClient:
    """Asks the fleet about auth events; one for a process, shared by everything in it.

    ``url`` is of a login with the role ``actions_core`` and may go through a pooler; ``listen_url`` is then a direct one.
    Use it as ``async with AsyncClient(url) as client``.
    """

    def __init__(self, url: str, *, listen_url: str | None = None, connections: int = 4) -> None:
        # No prepared statements where a pooler in transaction mode may be in the way.
        kwargs: dict[str, Any] = {"autocommit": True, "application_name": "auth-core actions client"}
        if listen_url is not None:
            kwargs["prepare_threshold"] = None
        self._pool = AsyncConnectionPool(url, min_size=1, max_size=connections, open=False, timeout=PATIENCE_S, kwargs=kwargs)
        self._listen_url = listen_url or url
        self._reply_to = ReplyTo()
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._early: dict[str, Outcome | None] = {}
        self._enqueueing = 0
        self._hears = asyncio.Event()
        self._asked: asyncio.Queue[_Ask] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> AsyncClient:
        await self._pool.open()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._gather())]
        try:
            await asyncio.wait_for(self._hears.wait(), PATIENCE_S)
        except asyncio.TimeoutError:
            await self.close()
            raise ActionsError("the database is not reachable; is the URL right, and may its login connect?") from None
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops listening and closes the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    async def invoke(self, project_id: str, trigger: str, event: Mapping[str, Any], *, event_id: str | None = None) -> Answer:
        """Reports an auth event and returns its one final outcome: the action's, or at the deadline its fail mode's.

        An ``event_id`` of your own (see ``new_event_id``) makes it safe to report the event again within ten minutes, by
        any process. Raises ``ActionsError`` where the database refuses or does not answer.
        """
        self._enqueueing += 1
        try:
            request = {"project_id": project_id, "trigger": trigger, "event": event, "event_id": event_id or new_event_id()}
            ask = _Ask(request, asyncio.get_running_loop().create_future())
            self._asked.put_nowait(ask)
            row = await ask.row
            invocation_id, outcome, wait_ms = row[0], row[3], row[4]
            if outcome is not None:
                return answer(row, outcome)
            result = self._waiting.get(invocation_id)
            if result is None:
                result = self._waiting[invocation_id] = asyncio.get_running_loop().create_future()
            if invocation_id in self._early and (early := self._early.pop(invocation_id)) is not None and not result.done():
                result.set_result(early)
        finally:
            self._enqueueing -= 1
            if self._enqueueing == 0:
                self._early.clear()
        try:
            return answer(row, await self._wait(invocation_id, result, wait_ms / 1000))
        finally:
            self._waiting.pop(invocation_id, None)

    async def _gather(self) -> None:
        """One statement at a time; the next takes all that came meanwhile."""
        while True:
            batch = [await self._asked.get()]
            while len(batch) < BATCH and not self._asked.empty():
                batch.append(self._asked.get_nowait())
            try:
                await self._report(batch)
            except ActionsError as error:
                # One wrong event refuses the statement, and must not cost the others.
                for ask in batch:
                    if len(batch) == 1 or not error.blames_event:
                        _fail(ask, error)
                        continue
                    try:
                        await self._report([ask])
                    except ActionsError as own:
                        _fail(ask, own)

    async def _report(self, batch: list[_Ask]) -> None:
        # The same event ids again are the same invocations, so an answer that got lost is asked for again.
        try:
            requests = json.dumps([ask.request for ask in batch])
        except (TypeError, ValueError) as error:
            raise ActionsError(f"the event is no JSON: {error}", blames_event=True) from error
        last, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            try:
                async with self._pool.connection() as connection:
                    rows = await (await connection.execute(ENQUEUE_MANY, (requests, self._reply_to.text))).fetchall()
                for ask, row in zip(batch, rows):
                    if not ask.row.done():
                        ask.row.set_result(row)
                return
            except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, PoolTimeout) as error:
                if time.monotonic() + pause > last:
                    raise ActionsError(f"the database does not answer: {error}") from error
            except psycopg.Error as error:
                raise ActionsError(f"the database refused the event: {error}", blames_event=True) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _wait(self, invocation_id: str, result: asyncio.Future[Outcome], wait_s: float) -> Outcome:
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                return await asyncio.wait_for(asyncio.shield(result), min(left, SILENCE_S))
            except asyncio.TimeoutError:
                # Whoever hears nothing may be deaf.
                if not self._hears.is_set():
                    await self._ask([invocation_id])
        last, pause = deadline + GRACE_S, FIRST_PAUSE_S
        while not result.done():
            try:
                async with self._pool.connection() as connection:
                    row = await (await connection.execute(ABANDON, (invocation_id,))).fetchone()
                    assert row is not None
                    outcome: Outcome = row[0]
                    return outcome
            except (psycopg.Error, PoolTimeout) as error:
                if time.monotonic() + pause > last:
                    raise ActionsError(f"there is no final outcome of {invocation_id}: {error}") from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return result.result()

    async def _listen(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                name = "auth-core actions listener"
                async with await psycopg.AsyncConnection.connect(self._listen_url, autocommit=True, application_name=name) as connection:
                    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._reply_to.channel)))
                    self._hears.set()
                    pause = FIRST_PAUSE_S
                    # What came meanwhile was told to nobody.
                    await self._ask(list(self._waiting))
                    async for notification in connection.notifies():
                        await self._hear(notification.payload)
            except psycopg.Error as error:
                _log.warning("the listening connection was lost: %s", error)
            self._hears.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _hear(self, payload: str) -> None:
        unread: list[str] = []
        for invocation_id, outcome in self._reply_to.read(payload):
            if outcome is not None:
                self._tell(invocation_id, outcome)
            elif invocation_id in self._waiting:
                unread.append(invocation_id)
            elif self._enqueueing > 0:
                unread.append(invocation_id)
        await self._ask(unread)

    def _tell(self, invocation_id: str, outcome: Outcome) -> None:
        result = self._waiting.get(invocation_id)
        if result is None:
            # Its enqueue is still on the way back.
            if self._enqueueing > 0 and len(self._early) < EARLY:
                self._early[invocation_id] = outcome
        elif not result.done():
            result.set_result(outcome)

    async def _ask(self, invocation_ids: list[str]) -> None:
        if not invocation_ids:
            return
        try:
            async with self._pool.connection() as connection:
                rows = await connection.execute(RESULTS, (invocation_ids,))
                for invocation_id, outcome in await rows.fetchall():
                    if outcome is not None:
                        self._tell(invocation_id, outcome)
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("results cannot be read: %s", error)


def _fail(ask: _Ask, error: ActionsError) -> None:
    if not ask.row.done():
        ask.row.set_exception(error)
