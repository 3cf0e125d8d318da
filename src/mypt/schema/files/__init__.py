"""The files of a run and of a dataset, as they stand on disk."""
