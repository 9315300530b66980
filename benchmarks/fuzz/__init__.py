"""Fuzzing: damaged, hostile and absurd input, which the program has to refuse with one line."""
