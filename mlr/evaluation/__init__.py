"""How good a model is on subjects it has not seen: scores, contact sheet and report."""
