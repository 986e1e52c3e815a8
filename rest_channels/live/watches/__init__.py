"""Actions that clients watch: they run again when a table that they have read is written to."""
