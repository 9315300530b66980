"""Faults: killing, starving and misleading the program, to check that nothing is lost."""
