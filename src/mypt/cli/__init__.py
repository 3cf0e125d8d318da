"""The command line: one file per verb, and tables that turn records into rich output."""

import gc
import os

COLLECT_AFTER = 50_000
"""New objects between two garbage collections. Python's own 700 costs a light verb a tenth of its time."""

gc.set_threshold(COLLECT_AFTER)
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for them costs 10 ms, and mypt has none
