"""Addresses of vendors."""

from urllib.parse import urlsplit


def address_problem(url: str) -> str | None:
    """Return what is wrong with a destination's address; None where nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no address; write one like https://api.example.com"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        return "is no http or https address; write one like https://api.example.com"
    if parts.query or parts.fragment or any(c.isspace() for c in url):
        return "must end before any ? or #; write one like https://api.example.com"
    return None


def upstream(value: object) -> object:
    """Pass the address of a vendor, as a validator does.

    Raises:
        ValueError: it is none, or has a credential in it.
    """
    if isinstance(value, str) and value and (wrong := address_problem(value)):
        raise ValueError(wrong)
    if isinstance(value, str) and "@" in urlsplit(value).netloc:
        raise ValueError("has a name or password in it, which never goes out; leave it out")
    return value
