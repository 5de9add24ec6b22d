"""What bench/tune.py is made of: model, data, and three who train on them."""
