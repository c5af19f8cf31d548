"""The passes: graph to graph and graph to loops, in one pipeline."""
