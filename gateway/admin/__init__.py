"""The admin API and the console: show and control a running gateway.

They have their own address and share no code path with events, only the objects that they show.
"""

from gateway.admin.app import AdminSite, make_app
from gateway.admin.context import AdminContext

__all__ = ["AdminContext", "AdminSite", "make_app"]
