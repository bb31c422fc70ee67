"""Deliver retained events again, as jobs beside live events."""
