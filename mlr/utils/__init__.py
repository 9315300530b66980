"""Progress, threads and memory."""
