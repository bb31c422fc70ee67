"""Accept customer-data events in one vendor's format, deliver them in any other's."""

from gateway.hookspecs import hookimpl

__all__ = ["hookimpl"]
