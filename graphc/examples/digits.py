"""Handwritten digits: a small network, from its declaration to its training. Run it:

    python -m graphc.examples.digits --list
    python -m graphc.examples.digits --train loss

Every view below can be looked at at every stage: --pprint hidden, --steps loss, --grad loss, --tasks loss, --plan loss.
"""

from pathlib import Path
from sys import argv

import numpy as np

from graphc import Dense, Input, Planner, accuracy, cross_entropy


class Digits(Planner):
    """A network with one hidden layer that reads 8 x 8 pixels and tells the digit."""

    x = Input(("N", 64), "float32")  # N images, each 64 numbers from 0 (paper) to 1 (ink)
    y = Input(("N",), "int64")  # the digits that they show
    hidden = x | Dense(128) | np.tanh
    logits = hidden | Dense(10)
    loss = cross_entropy(logits, y)  # the mean over the N images
    acc = accuracy(logits, y)


def load() -> dict[str, np.ndarray]:
    """The 1,797 digits that come with graphc (see digits.txt), by input name."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        return {"x": file["x"].astype("float32") / 16, "y": file["y"]}


if __name__ == "__main__":
    # A fifth of the digits is held out: validation:0.2 is every script's default, as the other options are.
    Digits().main(argv, data=load(), opts={"epochs": 30, "lr": 0.003})
