"""Kinds of origin that pictures have, one file each."""
