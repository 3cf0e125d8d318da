"""Text, tokenizers, token shards and batches."""
