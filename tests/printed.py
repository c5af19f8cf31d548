"""What documents show as printed, compared with what is printed now."""

from __future__ import annotations

import math
from itertools import zip_longest

ELLIPSIS = "..."


def disagreement(shown: str, printed: str) -> str | None:
    """Say where a printed text first differs from the one shown, or None.

    A line ``...`` stands for any lines. Numbers with a decimal point may differ a little: they depend on the machine's
    rounding. Spaces within a line do not count, for the same reason.
    """
    rest = printed.rstrip().splitlines()
    for k, part in enumerate(_parts(shown)):
        length = len(part)
        if k == 0:
            where = 0
        else:  # after an ellipsis: the first place where it fits
            places = range(len(rest) - length + 1)
            where = next((at for at in places if not _differing(part, rest[at : at + length])), -1)
        found = rest[where : where + length]
        if where < 0 or (wrong := _differing(part, found)):
            return f"shown but not printed:\n{chr(10).join(part) if where < 0 else wrong}"
        rest = rest[where + length :]
    return f"printed but not shown:\n{rest[0]}" if rest and not _is_open(shown) else None


def _parts(shown: str) -> list[list[str]]:
    """The runs of lines between ellipses, blank lines at their ends left out."""
    parts: list[list[str]] = [[]]
    for line in shown.rstrip().splitlines():
        if line.strip() == ELLIPSIS:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _is_open(shown: str) -> bool:
    return shown.rstrip().endswith(ELLIPSIS)


def _differing(shown: list[str], printed: list[str]) -> str:
    pairs = zip_longest(shown, printed, fillvalue="")
    return next((f"{left}\nprinted:\n{right}" for left, right in pairs if not _same(left, right)), "")


def _same(left: str, right: str) -> bool:
    ours, theirs = left.split(), right.split()
    return len(ours) == len(theirs) and all(map(_same_word, ours, theirs))


def _same_word(left: str, right: str) -> bool:
    if left == right:
        return True
    try:
        numbers = float(left.rstrip(",")), float(right.rstrip(","))
    except ValueError:
        return False
    return "." in left and math.isclose(*numbers, rel_tol=0.05, abs_tol=0.02)
