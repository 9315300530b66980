"""Comparing the rivals: data, protocol, measures, claims, and how they are shown."""
