"""Curves of runs: in the terminal, as a picture, and as a page that stands alone."""
