"""graphc beside the libraries that its users would take instead: the same work, checked, then timed in turns."""
