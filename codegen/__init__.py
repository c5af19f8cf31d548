"""Code generation: from loops to source text to callables."""
