"""What bench/smol/make.py and bench/smol/vlguard.py are made of."""
