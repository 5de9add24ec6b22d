"""The mirage card: what a model's safety hangs on. Probes are asked, cards are read off their records."""
