"""Models of the files of runs and datasets; see docs/files.md."""
