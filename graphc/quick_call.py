"""The text of a quick call: Python that hands feeds which need no preparation to a compiled function.

It is written out for the inputs at hand: loops over two arrays would take a quarter of a small step's time.
"""

from __future__ import annotations

from collections.abc import Sequence


def quick_text(inputs: Sequence[str], numbers: int, blocks: int, updates: bool) -> str:
    """The definition of ``quick(feeds, *numbers)``, which returns None for feeds that need preparation.

    It reads these names: ``block_0`` and so on, arrays that own their memory; ``known``, by the shapes of the inputs
    what to call, and with which arguments behind theirs, the numbers and the blocks; ``ndarray``; ``outputs``, which
    is called with the result; ``out_of_range``, which makes an error of an IndexError.

    Parameters
    ----------
    inputs
        The names of the arrays in feeds.
    numbers, blocks
        How many there are.
    updates
        Whether the blocks are updated: then no input may lie in one.
    """
    arrays, scalars, own = (
        [f"{word}_{k}" for k in range(count)]
        for word, count in (("input", len(inputs)), ("number", numbers), ("block", blocks))
    )
    lines = [f"def quick({', '.join(['feeds', *(f'{scalar}=None' for scalar in scalars)])}):"]
    lines += [f"    if len(feeds) != {len(inputs)}:", "        return None", "    try:"]
    for array, name in zip(arrays, inputs, strict=True):
        lines.append(f"        {array} = feeds[{name!r}]")
        if updates and own:
            itself, inside = (" or ".join(f"{owner} is {block}" for block in own) for owner in (array, "owner"))
            lines.append(f"        owner = {array}.base")
            lines.append(f"        if ({itself}) if owner is None else (type(owner) is not ndarray or {inside}):")
            lines.append("            return None")
    shapes = "".join(f"{array}.shape, " for array in arrays)
    lines.append(f"        function, more = known[({shapes.rstrip()})]")
    lines.append(f"        result = function({', '.join((*arrays, *scalars, *own, '*more'))})")
    lines += ["    except (KeyError, AttributeError, TypeError):", "        return None"]
    lines += ["    except IndexError as error:", "        raise out_of_range(error) from error"]
    return "\n".join((*lines, "    return outputs(result)", ""))
