"""Files that keep the runs of a folder in order."""
