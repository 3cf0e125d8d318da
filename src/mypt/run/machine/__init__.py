"""The machine that mypt runs on, as far as training depends on it."""
