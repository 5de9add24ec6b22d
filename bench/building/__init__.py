"""A chat server for benches of `vlmend build`: the same answer to everyone, after a delay."""
