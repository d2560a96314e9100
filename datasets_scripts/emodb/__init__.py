"""Berlin Database of Emotional Speech."""
