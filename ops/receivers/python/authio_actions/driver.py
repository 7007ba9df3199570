"""Checks signatures by JSON lines, to hold this library to others: see the README."""

from __future__ import annotations

import base64
import json
import sys

from .signature import verify


def main() -> None:
    for line in sys.stdin:
        if line.strip():
            asked = json.loads(line)
            valid = verify(asked["secrets"], asked["header"], base64.b64decode(asked["body_b64"]))
            print(json.dumps({"valid": valid}), flush=True)


if __name__ == "__main__":
    main()
