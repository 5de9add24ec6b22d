"""Data sets made with a generator model: pipelines of small questions, their answers checked, stored and paid once."""
