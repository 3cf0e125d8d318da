"""Weights and moments in parts, of which each of several processes has saved its own."""
