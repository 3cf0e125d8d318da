"""One run on many processes: who they are, what each does, and how they agree."""
