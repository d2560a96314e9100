"""Scripts that measure: each writes records into `results/`, with the command that made them."""
