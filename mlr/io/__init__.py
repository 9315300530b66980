"""Images, clips, tables and models in files."""
