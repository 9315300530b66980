"""Files: pairing, reading and writing images, and the faces that are drawn."""
