"""How good a model is on people it has not seen: scores, contact sheet and report."""
