"""Read which files a repository owes to an earlier version, which listed them in the README alone.

Those versions wrote names into the README as they are, so the name of a source could look like
lines of the card. But it could not take away a line that is true. So nothing counts unless the
lines before and after the table occur once, and every line between them is a row of the table. The
name of a source stands there in the rows of the files that were read, of which the last line ends
with its hash: no row of a file that was written, which comes later, can be part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .manifest import MANIFEST, FileFact
from .readme import BEGIN, END, markers

_HEAD, _RULE = "| file |  | bytes | sha256 |", "| --- | --- | --- | --- |"
_NEXT = "## Parity"
_READ = re.compile(r"\| `[^`]+` \| read \| \d+ \| `[0-9a-f]{64}` \|", re.ASCII)
_WRITTEN = re.compile(
    r"\| \[`([\w.+-]+)`\]\(\1\) \| written \| (\d{1,15}) \| `([0-9a-f]{64})` \|", re.ASCII
)


def listed(readme: bytes) -> Mapping[str, FileFact]:
    """Read the table of a card.

    Args:
        readme: A README.md with a card in it, or without.

    Returns:
        The files that were written together with it, by name. Nothing if there is any doubt, and
        nothing for a card of this version, which lists a manifest: without it, nobody knows.
    """
    text = readme.decode(errors="replace").replace("\r\n", "\n")
    if markers(text) != [BEGIN, END]:
        return {}
    lines = text.partition(BEGIN)[2].partition(END)[0].split("\n")
    if lines.count(_HEAD) != 1 or lines.count(_NEXT) != 1:
        return {}
    first, *rows = lines[lines.index(_HEAD) + 1 : lines.index(_NEXT)] or [""]
    read = 0
    while read < len(rows) and _READ.fullmatch(rows[read]):
        read += 1
    found = [_WRITTEN.fullmatch(row) for row in rows[read:-1]]
    files = {row[1]: FileFact(row[1], int(row[2]), row[3]) for row in found if row}
    sound = first == _RULE and read > 0 and len(files) == len(found) and rows[-1] == ""
    return files if sound and MANIFEST not in files else {}
