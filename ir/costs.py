"""What computing costs, roughly, in picoseconds of one core: enough to tell what is worth a thread."""

ADDITION = 100  # an addition, a load or a store among many
PRODUCT = 15  # a multiplication and an addition in a matrix product
REGION = 10_000_000  # what a parallel region must save: starting one costs a fifth of that
LAUNCH = 5_000_000  # work of one core below which a GPU's kernel runs on one block of threads; not measured
