"""The board: the runs of a folder in the browser, live. A local page that only reads."""
