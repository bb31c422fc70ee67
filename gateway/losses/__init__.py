"""Compute what an event loses at a destination, from the mapping tables."""
