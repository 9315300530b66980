"""Recipes: how a model is made of statistics."""
