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
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from .ids import new_event_id
from .outcome import Answer
from .protocol import (
    ABANDON,
    ANSWER_S,
    BATCH,
    EARLY,
    ENQUEUE_AGAIN,
    ENQUEUE_MANY,
    EPOCH,
    FIRST_PAUSE_S,
    FORGOTTEN,
    GRACE_S,
    KEEPALIVE,
    LONGEST_PAUSE_S,
    PATIENCE_S,
    RESULTS,
    SILENCE_S,
    TRACE_PARENT,
    ActionsError,
    ReplyTo,
    Told,
    told,
)

_log = logging.getLogger(__name__)

_Row = tuple[Any, ...]


class _Ask(NamedTuple):
    """An event to report, and who wants the row of enqueue."""

    request: dict[str, Any]
    row: asyncio.Future[_Row]


class _Waiter:
    """Who waits for an invocation: several, where one event was reported twice here."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self.count = 0


class _Away(Exception):
    """The database is away, or did not answer; ``may_be_done`` where the statement had been sent."""

    def __init__(self, cause: BaseException, *, may_be_done: bool) -> None:
        super().__init__(str(cause) or "no answer in time")
        self.may_be_done = may_be_done


class AsyncClient:
    """Asks the fleet about auth events; one for a process, shared by everything in it.

    ``url`` is of a login with the role ``actions_core`` and may go through a pooler; ``listen_url`` is then a direct one.
    Use it as ``async with AsyncClient(url) as client``.
    """

    def __init__(self, url: str, *, listen_url: str | None = None, connections: int = 4) -> None:
        kwargs: dict[str, Any] = {"autocommit": True, "application_name": "auth-core actions client", **KEEPALIVE}
        if listen_url is not None:
            # A pooler in transaction mode knows no prepared statements.
            kwargs["prepare_threshold"] = None
        self._pool = AsyncConnectionPool(url, min_size=1, max_size=connections, open=False, timeout=PATIENCE_S, kwargs=kwargs)
        self._listen_url = listen_url or url
        self._reply_to = ReplyTo()
        self._waiting: dict[str, _Waiter] = {}
        self._early: dict[str, Told] = {}
        self._reporting = 0
        self._hears = asyncio.Event()
        self._asked: asyncio.Queue[_Ask] = asyncio.Queue()
        #: The server's epoch, learnt before anything was sent in it.
        self._epoch: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> AsyncClient:
        await self._pool.open()
        self._tasks = [asyncio.create_task(task) for task in (self._listen(), self._gather(), self._look())]
        try:
            await asyncio.wait_for(self._hears.wait(), PATIENCE_S)
        except asyncio.TimeoutError:
            await self.close()
            raise ActionsError("the database is not reachable; is the URL right, and may its login connect?") from None
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops listening and closes the connections. Whoever still waits gets an error."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        closed = ActionsError("the client was closed")
        while not self._asked.empty():
            _fail(self._asked.get_nowait().row, closed)
        for waiter in self._waiting.values():
            _fail(waiter.result, closed)
        await self._pool.close()

    async def invoke(
        self, project_id: str, trigger: str, event: Mapping[str, Any], *, event_id: str | None = None, trace_parent: str | None = None
    ) -> Answer:
        """Reports an auth event and returns its one final outcome: the action's, or at the deadline its fail mode's.

        An ``event_id`` of your own (see ``new_event_id``) makes it safe to report the event again within ten minutes, by
        any process. A ``trace_parent`` (W3C ``traceparent``) joins the fleet's spans and the endpoint's to your trace; one
        that is not valid is passed over. Raises ``ActionsError`` where the database refuses or does not answer.
        """
        if not self._tasks:
            raise ActionsError("the client is closed; use it within: async with AsyncClient(url) as client")
        request = {"project_id": project_id, "trigger": trigger, "event": event, "event_id": event_id or new_event_id()}
        if trace_parent is not None and TRACE_PARENT.fullmatch(trace_parent):
            request["trace_parent"] = trace_parent
        ask = _Ask(request, asyncio.get_running_loop().create_future())
        self._reporting += 1
        try:
            self._asked.put_nowait(ask)
            invocation_id, id, action_id, outcome, wait_ms = await ask.row
            if outcome is not None:
                return Answer(id, invocation_id, action_id, *told(outcome))
            waiter = self._waiting.setdefault(invocation_id, _Waiter())
            waiter.count += 1
            early = self._early.pop(invocation_id, None)
            if early is not None and not waiter.result.done():
                waiter.result.set_result(early)
        finally:
            self._reporting -= 1
            if self._reporting == 0:
                self._early.clear()
        try:
            return Answer(id, invocation_id, action_id, *await self._wait(invocation_id, waiter.result, wait_ms / 1000))
        finally:
            waiter.count -= 1
            if waiter.count == 0:
                self._waiting.pop(invocation_id, None)

    async def _gather(self) -> None:
        """One statement at a time; the next takes all that came meanwhile."""
        while True:
            batch = [await self._asked.get()]
            while len(batch) < BATCH and not self._asked.empty():
                batch.append(self._asked.get_nowait())
            try:
                await self._report_each(batch)
            except asyncio.CancelledError:
                for ask in batch:
                    _fail(ask.row, ActionsError("the client was closed"))
                raise
            except Exception as error:  # whatever it is, it must not end this loop
                for ask in batch:
                    _fail(ask.row, ActionsError(f"the event cannot be reported: {error!r}"))

    async def _report_each(self, batch: list[_Ask]) -> None:
        try:
            await self._report(batch)
        except ActionsError as error:
            # One wrong event refuses the statement, and must not cost the others.
            for ask in batch:
                if len(batch) == 1 or not error.blames_event:
                    _fail(ask.row, error)
                    continue
                try:
                    await self._report([ask])
                except ActionsError as own:
                    _fail(ask.row, own)

    async def _report(self, batch: list[_Ask]) -> None:
        requests = [ask.request for ask in batch]
        try:
            events = [json.dumps(request["event"], allow_nan=False) for request in requests]
            text = json.dumps(requests, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ActionsError(f"the event is no JSON: {error}", blames_event=True) from error
        columns = [[request[key] for request in requests] for key in ("project_id", "trigger", "event_id")]
        parents = [request.get("trace_parent") for request in requests]
        last, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        lost: Any = None
        while True:
            epoch = self._epoch
            try:
                if lost is not None:
                    # The same event ids again are the same invocations; what a crash may have forgotten is refused.
                    again = (columns[0], columns[1], events, columns[2], self._reply_to.text, lost, parents)
                    rows = await self._rows(ENQUEUE_AGAIN, again, ANSWER_S)
                else:
                    if epoch is None:
                        [(epoch,)] = await self._rows(EPOCH, (), ANSWER_S)
                        self._epoch = epoch
                    rows = await self._rows(ENQUEUE_MANY, (text, self._reply_to.text), ANSWER_S)
                if len(rows) != len(batch):
                    raise ActionsError("enqueue answered with another number of rows")
                for ask, row in zip(batch, rows):
                    if not ask.row.done():
                        ask.row.set_result(row)
                return
            except _Away as away:
                self._epoch = None
                if away.may_be_done and lost is None and epoch is not None:
                    lost = epoch
                if time.monotonic() + pause > last:
                    raise ActionsError(f"the database does not answer: {away}") from away
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _wait(self, invocation_id: str, result: asyncio.Future[Told], wait_s: float) -> Told:
        try:
            return await asyncio.wait_for(asyncio.shield(result), wait_s)
        except asyncio.TimeoutError:
            pass
        last, pause = time.monotonic() + GRACE_S, FIRST_PAUSE_S
        while not result.done():
            left = last - time.monotonic()
            try:
                [(outcome,)] = await self._rows(ABANDON, (invocation_id,), max(left, 0.1))
                return told(outcome)
            except _Away as error:
                if time.monotonic() + pause > last:
                    raise ActionsError(f"there is no final outcome of {invocation_id}: {error}") from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return result.result()

    async def _rows(self, statement: str, params: tuple[Any, ...], limit_s: float) -> list[_Row]:
        """Runs one statement. Raises ``_Away`` where another try may have more luck, else ``ActionsError``."""
        was_sent = False

        async def run() -> list[_Row]:
            nonlocal was_sent
            async with self._pool.connection(timeout=limit_s) as connection:
                was_sent = True
                return await (await connection.execute(statement, params)).fetchall()

        running = asyncio.create_task(run())
        try:
            # Not wait_for: a statement that is given up asks the server to stop, and waits for that too long.
            await asyncio.wait({running}, timeout=limit_s + 0.1)
        finally:
            if not running.done():
                running.cancel()
                running.add_done_callback(_forget)
        try:
            if running.cancelled() or not running.done():
                raise asyncio.TimeoutError
            return running.result()
        except (PoolTimeout, PoolClosed) as error:
            raise _Away(error, may_be_done=False) from error
        except asyncio.TimeoutError as error:
            raise _Away(error, may_be_done=was_sent) from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise _Away(error, may_be_done=False) from error
        except psycopg.OperationalError as error:
            if error.sqlstate == FORGOTTEN:
                raise ActionsError(str(error)) from error
            raise _Away(error, may_be_done=was_sent) from error
        except psycopg.Error as error:
            raise ActionsError(f"the database refused: {error}", blames_event=True) from error

    async def _listen(self) -> None:
        pause = FIRST_PAUSE_S
        name = "auth-core actions listener"
        while True:
            try:
                connecting = psycopg.AsyncConnection.connect(self._listen_url, autocommit=True, application_name=name, **KEEPALIVE)
                async with await connecting as connection:
                    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._reply_to.channel)))
                    self._hears.set()
                    pause = FIRST_PAUSE_S
                    async for notification in connection.notifies():
                        self._hear(notification.payload)
            except Exception as error:  # whatever it is, somebody has to listen again
                _log.warning("the listening connection was lost: %s", error)
            self._hears.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _hear(self, payload: str) -> None:
        for invocation_id, result in self._reply_to.read(payload):
            # One without an outcome is asked for with the next look.
            if result is not None:
                self._tell(invocation_id, result)

    def _tell(self, invocation_id: str, result: Told) -> None:
        waiter = self._waiting.get(invocation_id)
        if waiter is not None:
            if not waiter.result.done():
                waiter.result.set_result(result)
        elif self._reporting > 0:
            # Its enqueue is still on the way back. The oldest go first: who left will not come for them.
            if len(self._early) >= EARLY:
                del self._early[next(iter(self._early))]
            self._early[invocation_id] = result

    async def _look(self) -> None:
        """Asks for what was not heard of: a notification may be lost, too large, or somebody else's."""
        asked: set[str] = set()
        while True:
            await asyncio.sleep(SILENCE_S / 2)
            waiting = {id for id, waiter in self._waiting.items() if not waiter.result.done()}
            # Those that were here at the last look already.
            ids, asked = sorted(waiting & asked), waiting
            if not ids:
                continue
            try:
                for invocation_id, outcome in await self._rows(RESULTS, (ids,), ANSWER_S):
                    if outcome is not None:
                        self._tell(invocation_id, told(outcome))
            except Exception as error:  # whatever it is, the next look may have more luck
                _log.warning("results cannot be read: %s", error)


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _fail(future: asyncio.Future[Any], error: ActionsError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may have waited for it
