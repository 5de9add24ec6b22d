"""Data sets made with a generator model: what is asked for, of which pictures, and what becomes of each call."""
