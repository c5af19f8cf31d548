"""The network of network.txt."""

import numpy as np

from graphc import Dense, Input, Planner, sigmoid


class Network(Planner):
    x = Input(("N", 2))
    y = Input(("N", 1))
    hidden = x | Dense(3) | sigmoid
    out = hidden | Dense(1) | sigmoid
    loss = np.mean(np.square(out - y)) / 2
