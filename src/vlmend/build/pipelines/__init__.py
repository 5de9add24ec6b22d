"""Pipelines, one file each: what is asked about a picture or a row, and what rows come of the answers."""
