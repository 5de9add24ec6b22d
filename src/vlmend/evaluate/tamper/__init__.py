"""Tamper tests: does what was forgotten stay forgotten when somebody works at the model."""
