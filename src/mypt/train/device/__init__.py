"""What computes: devices and precision, and what a GPU does beside the host."""
