"""From texts of any size to token shards."""
