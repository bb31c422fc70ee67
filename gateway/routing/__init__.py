"""Routing: which events go where, when, and after which steps; docs/routing.md is its guide.

``fields`` names what an event holds, ``condition`` judges it in CEL, ``steps`` change it, and
``router`` decides.
"""
