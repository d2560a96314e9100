"""Polish emotional speech."""
