"""Tensors in and out of a bundle."""
