"""Routing: decide which destinations get an event, and after which steps; see docs/routing.md.

`gateway.conditions` evaluates conditions in CEL, ``steps`` change events, ``router`` decides,
``consent`` stores users' consent.
"""
