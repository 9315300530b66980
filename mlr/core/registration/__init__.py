"""Registration of faces: features, fields, templates, and pairs moved into a common frame."""
