"""The code blocks of the five documents, which are not part of this repository: 000*.txt to 004*.txt in a folder."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """A code block, unchanged but for the indentation that it has in a list."""

    language: str
    code: str
    # The numbers of its first and last line.
    first: int
    last: int


def blocks(folder: Path, number: str) -> list[Block]:
    found: list[Block] = []
    for file in sorted(folder.glob(f"{number}*.txt")):
        language, first, lines = "", 0, []
        for index, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            fence = re.fullmatch(r"\s*```(\w*)\s*", line)
            if fence and first:
                code = textwrap.dedent("\n".join(lines)) + "\n"
                found.append(Block(language, code, first, index - 1))
                first = 0
            elif fence:
                language, first, lines = fence[1], index + 1, []
            elif first:
                lines.append(line)
    return found
