"""Pages, tables and figures, from the store alone."""
