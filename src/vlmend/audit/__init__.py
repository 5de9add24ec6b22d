"""What gives the expected behavior away before anything is understood: shortcuts in a data set, and their removal."""
