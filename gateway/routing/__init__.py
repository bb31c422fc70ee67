"""Routing: which events go where, when, and after which steps; docs/routing.md is its guide.

`gateway.conditions` judges an event in CEL, ``steps`` change it, ``router`` decides, ``consent``
remembers what users agreed to.
"""
