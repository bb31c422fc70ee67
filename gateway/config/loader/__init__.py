"""From configuration files to a `Config`, or to everything that is wrong with them."""
