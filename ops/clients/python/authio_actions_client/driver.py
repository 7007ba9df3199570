"""Reports events by JSON lines, to hold this client to others: see the README."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from . import ActionsError, AsyncClient


async def _report(client: AsyncClient, asked: dict[str, Any]) -> None:
    line: dict[str, Any] = {"n": asked["n"]}
    try:
        outcome = (await client.invoke(asked["project_id"], asked["trigger"], asked["event"])).outcome
        line |= {"status": outcome["status"], "outcome": outcome}
    except ActionsError as error:
        line |= {"status": "error", "outcome": None, "error": str(error)}
    print(json.dumps(line), flush=True)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncClient(os.environ["DATABASE_URL"]) as client:
        reports = []
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip():
                reports.append(asyncio.create_task(_report(client, json.loads(line))))
        await asyncio.gather(*reports)


if __name__ == "__main__":
    asyncio.run(_main())
