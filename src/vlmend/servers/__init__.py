"""Talking to model servers: requests, pace, retries, batches. Knows nothing of examples' meaning, judges or stores."""
