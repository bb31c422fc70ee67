"""Configurations as text: the tables that tests need, with sensible defaults.

A text may hold ``{folder}`` and ``{url}`` until `filled` puts a folder and the sandbox's address
there.
"""

from pathlib import Path

VENDORS = ("chrts", "growlytics", "personaclick", "quartic", "segment", "tracardi")

SETTINGS = {
    "chrts": 'api_key = "api_chrts_sandbox"',
    "personaclick": 'shop_id = "0d42fd8b713d0752776ca589cc0056"\nshop_secret = "shop-secret"',
    "tracardi": 'source_id = "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"',
    "quartic": 'api_key = "quartic-sandbox-key"\ncustomer = "quartic_account"',
    "growlytics": 'api_key = "growlytics-sandbox-key"',
    "segment": 'write_key = "segment-sandbox-key"',
}
"""The required settings of each vendor's destination, without its URL."""
FOLDER, SANDBOX = "{folder}", "{url}"
ADMIN = '[admin]\nlisten = "127.0.0.1:0"\n'
PROMPT_RETRIES = 'retry_min = "10ms"\nretry_max = "20ms"'


def base_config(folder: object = FOLDER, *, server: str = "", spool: str = "") -> str:
    """Return `[server]` on a free port and `[spool]`, each with further lines."""
    return (
        f'[server]\nlisten = "127.0.0.1:0"\n{server}\n[spool]\npath = "{folder}/spool"\n{spool}\n'
    )


def source(vendor: str, *keys: str, name: str = "", more: str = "") -> str:
    """Return the table of a source, called like its vendor or *name*; without *keys* of any."""
    known = ", ".join(f'"{key}"' for key in keys)
    accepted = f"[{known}]" if keys else '"any"'
    return f'[sources.{name or vendor}]\nvendor = "{vendor}"\nkeys = {accepted}\n{more}\n'


def destination(
    vendor: str, sandbox: str = SANDBOX, more: str = "", *, name: str = "", settings: str = ""
) -> str:
    """Return the table of a destination at the sandbox, called like its vendor or *name*."""
    return (
        f'[destinations.{name or vendor}]\nvendor = "{vendor}"\nurl = "{sandbox}/{vendor}"\n'
        f"{settings or SETTINGS[vendor]}\n{more}\n"
    )


def route(*to: str, name: str = "", more: str = "") -> str:
    """Return a route to destinations."""
    named = f'name = "{name}"\n' if name else ""
    names = ", ".join(f'"{one}"' for one in to)
    return f"[[routes]]\n{named}to = [{names}]\n{more}\n"


def filled(text: str, folder: Path, url: str) -> str:
    """Return *text* with the folder and the address of the sandbox, or of another vendor."""
    return text.replace(FOLDER, str(folder)).replace(SANDBOX, url)


def everything(folder: Path, sandbox: str, more: str = "") -> str:
    """Return a configuration in which every vendor's source goes to every vendor."""
    sources = "".join(source(vendor) for vendor in VENDORS)
    destinations = "".join(destination(vendor, sandbox, more) for vendor in VENDORS)
    return f"{base_config(folder)}{sources}{destinations}{route(*VENDORS)}"
