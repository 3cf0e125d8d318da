"""Folders that Hugging Face's libraries open."""
