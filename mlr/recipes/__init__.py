"""Recipes: how a model is computed from statistics."""
