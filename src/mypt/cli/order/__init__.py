"""Verbs that keep runs in order, each in a module of its own: they name, label, copy and remove, and train nothing."""
