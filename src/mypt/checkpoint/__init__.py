"""Bundles: the folders on disk that hold a checkpoint."""
