"""The admin API and the console: looking at a running gateway and steering it.

They have an address of their own, beside the one where events come in, and share nothing with the
path of an event but the objects that they look at.
"""

from gateway.admin.app import AdminSite, make_app
from gateway.admin.context import AdminContext

__all__ = ["AdminContext", "AdminSite", "make_app"]
