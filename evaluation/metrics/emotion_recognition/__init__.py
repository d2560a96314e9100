"""The metric that `evaluate.load` takes from this folder."""
