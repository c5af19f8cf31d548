"""The text of a quick call: Python that hands feeds which need no preparation to a compiled function.

It is written out for the inputs at hand: loops over two arrays would take a fifth of a small step's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def quick_text(
    inputs: Sequence[str], numbers: int, blocks: int, outputs: Sequence[type[np.generic] | None], updates: bool
) -> str:
    """The definition of ``quick(feeds, *numbers)``: it returns a tuple, or None for feeds that need preparation.

    It reads these names: ``block_0`` and so on, arrays that own their memory; ``known``, by the shapes of the inputs
    what to call, and with which arguments behind theirs, the numbers and the blocks; ``ndarray``; ``scalar_0`` and so
    on, the types of outputs, and ``one_0``, a 1 of that type; ``out_of_range``, which makes an error of an IndexError.

    Parameters
    ----------
    inputs
        The names of the arrays in feeds.
    numbers, blocks
        How many there are.
    outputs
        The type of each output that is a scalar; None for an array.
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
            lines += [f"        owner = {array}.base", "        if owner is None:", f"            owner = {array}"]
            lines += ["        elif type(owner) is not ndarray or owner.base is not None:", "            return None"]
            lines += [f"        if {' or '.join(f'owner is {block}' for block in own)}:", "            return None"]
    shapes = "".join(f"{array}.shape, " for array in arrays)
    lines.append(f"        function, more = known[({shapes.rstrip()})]")
    lines.append(f"        result = function({', '.join((*arrays, *scalars, *own, '*more'))})")
    lines += ["    except (KeyError, AttributeError, TypeError):", "        return None"]
    lines += ["    except IndexError as error:", "        raise out_of_range(error) from error"]
    results = [f"output_{k}" for k in range(len(outputs))]
    if results:
        lines.append(f"    {', '.join(results)} = result")
    values = (_converted(k, scalar) for k, scalar in enumerate(outputs))
    return "\n".join((*lines, f"    return ({''.join(f'{value}, ' for value in values).rstrip()})", ""))


def _converted(place: int, scalar: type[np.generic] | None) -> str:
    """An output as a NumPy scalar of its type: for floats a product with a 1 is one, in a third of the time."""
    if scalar is None:
        return f"output_{place}"
    floating = issubclass(scalar, np.floating)
    return f"one_{place} * output_{place}" if floating else f"scalar_{place}(output_{place})"
