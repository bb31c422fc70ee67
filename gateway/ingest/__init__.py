"""Receive HTTP requests and store their events."""
