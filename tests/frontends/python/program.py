"""Runs a program that may use `await` outside functions, as the snippets of the documents do.

program.py FILE
"""

import ast
import asyncio
import inspect
import sys
from pathlib import Path


async def main() -> None:
    file = Path(sys.argv[1])
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, {"__name__": "__main__"})  # noqa: S307 - a program of the test
    if inspect.iscoroutine(running):
        await running
    # What it published leaves before it ends.
    backend = sys.modules.get("tidegate_backend")
    if backend and backend._connected:
        await backend._connected.drain()


asyncio.run(main())
