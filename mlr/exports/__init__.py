"""Models in other forms: a page that changes faces in a browser."""
