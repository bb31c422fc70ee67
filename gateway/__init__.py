"""Accept customer-data events in one vendor's format, deliver them in any other's."""

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the import
if TYPE_CHECKING:
    from pluggy import HookimplMarker

    hookimpl: HookimplMarker

__all__ = ["hookimpl"]


def __getattr__(name: str) -> object:
    """Return `hookimpl`, imported on first use.

    pluggy imports slowly, and the command line must handle signals before slow imports.
    """
    if name != "hookimpl":
        raise AttributeError(name)
    from pluggy import HookimplMarker  # noqa: PLC0415 - imported on first use

    return HookimplMarker("gateway")
