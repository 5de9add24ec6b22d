"""What judges that ask a model share: where they ask, what was asked before, how they ask, and how replies are read.

Nothing here knows a judge; a judge is one file in `vlmend.judges`.
"""
