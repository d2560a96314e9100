"""A folder of recordings of one's own."""
