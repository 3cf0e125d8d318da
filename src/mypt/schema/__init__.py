"""The files of a run as pydantic models, and the tree of errors: the one home of every default and bound."""
