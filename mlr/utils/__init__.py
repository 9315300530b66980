"""Progress, threads, memory limits and options."""
