"""Planner scripts that run as they are: `python -m graphc.examples.digits`."""
