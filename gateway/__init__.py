"""Accept customer-data events in one vendor's format, deliver them in any other's."""

TYPE_CHECKING = False  # typing's, without importing it
if TYPE_CHECKING:
    from pluggy import HookimplMarker

    hookimpl: HookimplMarker

__all__ = ["hookimpl"]


def __getattr__(name: str) -> object:
    """Return `hookimpl`, made when it is asked for.

    The command must obey signals before it imports what takes long.
    """
    if name != "hookimpl":
        raise AttributeError(name)
    from pluggy import HookimplMarker  # noqa: PLC0415 - that is what this is for

    return HookimplMarker("gateway")
