"""Drivers: value and gradients of a loss, and a training step on it, by every library."""
