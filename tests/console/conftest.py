"""Share one browser between the tests of a module."""

from tests.external_programs import browser

__all__ = ["browser"]
