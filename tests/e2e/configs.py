"""Configurations that several end-to-end tests use."""

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


def destination(vendor: str, sandbox: str, more: str = "") -> str:
    """Return the table of a destination at the sandbox."""
    return (
        f'[destinations.{vendor}]\nvendor = "{vendor}"\nurl = "{sandbox}/{vendor}"\n'
        f"{SETTINGS[vendor]}\n{more}\n"
    )


def everything(folder: Path, sandbox: str, more: str = "") -> str:
    """Return a configuration of all vendors in and out, everything to everything."""
    sources = "".join(f'[sources.{v}]\nvendor = "{v}"\nkeys = "any"\n' for v in VENDORS)
    destinations = "".join(destination(v, sandbox, more) for v in VENDORS)
    names = ", ".join(f'"{v}"' for v in VENDORS)
    return (
        f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder / "spool"}"\n'
        f"{sources}{destinations}[[routes]]\nto = [{names}]\n"
    )
