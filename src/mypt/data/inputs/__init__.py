"""What an input is, and what is in it: text or rows, packed or not."""
