"""Conditions of routes in CEL: syntax, types, analysis, evaluation."""
