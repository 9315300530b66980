"""From image files to statistics: in one pass, in shards, or in bands of rows."""
