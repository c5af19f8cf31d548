"""The CUDA target: the loop IR as numba-cuda's kernels, what they call, and the device that they run on."""
