"""Runs kept in order: renamed, removed, counted; nothing here loads a tensor, but what copies a run."""
