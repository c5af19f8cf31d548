"""Run a module on the emulated device: ``python -m emulator -m pytest tests/test_on_device.py``."""

import runpy
import sys

from emulator import start

if len(sys.argv) < 2 or (sys.argv[1] == "-m" and len(sys.argv) < 3):
    sys.exit("usage: python -m emulator [-m module | script] [arguments]")
start()
if sys.argv[1] == "-m":
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
