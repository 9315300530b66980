"""Photographs: detect faces, follow them through clips, align crops, composite changes."""
