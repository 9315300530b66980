"""Synthesis of images, photographs, animations and clips with a model."""
