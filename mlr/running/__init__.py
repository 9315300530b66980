"""How work is done: threads, memory, bands of rows, other machines, and what is said of it."""
