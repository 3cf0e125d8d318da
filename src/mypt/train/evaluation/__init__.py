"""What an evaluation measures, and what becomes of it."""
