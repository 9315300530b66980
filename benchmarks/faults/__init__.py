"""Faults: killing, starving and misleading the program, to see that nothing is lost."""
