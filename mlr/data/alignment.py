"""Where a face lies in an aligned image."""

#: The eyes' centres, left and right as seen, as (x, y) in units of the image's sides.
EYES = ((0.32, 0.36), (0.68, 0.36))
