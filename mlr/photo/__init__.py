"""Faces in photographs: detection, aligned crops, and compositing of changes."""
