"""What a model has learnt, to look at."""
