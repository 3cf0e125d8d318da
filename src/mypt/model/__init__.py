"""The network, its loss, text generation, and cost estimates."""
