"""The network, and generation from it."""
