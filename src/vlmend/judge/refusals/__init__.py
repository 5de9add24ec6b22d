"""How refusals are told by rule: openings in many languages, and a small classifier where the rule is unsure."""
