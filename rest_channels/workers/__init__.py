"""Worker threads, the database connections they keep, and state that frames leave there."""
