"""Recipes times settings: each tuned and evaluated in a process of its own, then counted and set side by side."""
