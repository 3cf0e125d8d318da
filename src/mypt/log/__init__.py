"""A log on disk: one writer, one reader, one replay of what is live, and what is told from it."""
