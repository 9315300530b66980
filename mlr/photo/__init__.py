"""Photographs: where their faces are, aligned crops of these, and changes put back into them."""
