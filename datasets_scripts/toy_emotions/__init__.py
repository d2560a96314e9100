"""Embedded corpus of synthetic voices."""
