"""Files of token ids that no metadata describe: which files of a folder are shards, and how each holds its ids."""
