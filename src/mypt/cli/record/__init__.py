"""Verbs that only read records, each in a module of its own: none of them loads torch."""
