"""Evaluation of models on held-out subjects, and plots of what they have learnt."""
