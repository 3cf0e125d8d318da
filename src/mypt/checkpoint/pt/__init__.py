"""The .pt files of a bundle, as far as they can be read and judged without torch."""
