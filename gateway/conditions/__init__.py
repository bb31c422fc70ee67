"""The condition language (CEL): syntax, types, analysis, evaluation."""
