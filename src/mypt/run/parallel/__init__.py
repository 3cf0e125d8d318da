"""A run on many processes: what the first hands to the others, and what those do."""
