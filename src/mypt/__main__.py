"""`python -m mypt` is `mypt`."""

from mypt.cli.app import main

main()
