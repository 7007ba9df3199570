"""Reports events by JSON lines, to hold this client to others: see the README."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from . import AsyncClient


async def _report(client: AsyncClient, line: str) -> None:
    n = None
    try:
        asked = json.loads(line)
        n = asked["n"]
        answer = await client.invoke(asked["project_id"], asked["trigger"], asked["event"])
        # The outcome as the database wrote it, whatever this language makes of its numbers.
        said = f'{{"n":{json.dumps(n)},"status":{json.dumps(answer.outcome["status"])},"outcome":{answer.json}}}'
    except Exception as error:
        said = json.dumps({"n": n, "status": "error", "outcome": None, "error": str(error)})
    print(said, flush=True)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncClient(os.environ["DATABASE_URL"]) as client:
        reports = []
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip():
                reports.append(asyncio.create_task(_report(client, line)))
        await asyncio.gather(*reports)


if __name__ == "__main__":
    asyncio.run(_main())
