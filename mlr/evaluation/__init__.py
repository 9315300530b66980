"""How good a model is on held-out subjects, and what it has learnt."""
