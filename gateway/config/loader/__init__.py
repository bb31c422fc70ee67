"""Load the configuration file: read, merge, resolve references, validate, check."""
