"""A source that serves the files of Analytics.js, as configured and as explained."""

from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config.loader.load import load
from gateway.errors import ConfigError
from gateway.explain import Explainer, ExplainRequest
from gateway.plugin.registry import load_plugins
from tests.e2e.configs import base_config, destination, filled, route, source

PLUGINS = load_plugins()
CDN = 'cdn_url = "https://cdn.segment.com"\nrelay_timeout = "5s"'


def read(folder: Path, more: str, **environ: str) -> Config:
    """Return the configuration of a source with *more* lines."""
    path = folder / "gateway.toml"
    text = base_config() + source("segment", "k", more=more) + destination("segment")
    path.write_text(filled(text + route("segment"), folder, "https://sandbox.example"))
    return load(path, PLUGINS, environ)


def test_a_cdn_is_reached_as_a_relay_is(tmp_path: Path) -> None:
    """The proxy of the environment and the timeout of relayed calls hold for files, too."""
    config = read(tmp_path, CDN, HTTPS_PROXY="http://proxy.example:3128")
    proxy = config.sources["segment"].proxy
    assert proxy is not None
    assert proxy.get_secret_value() == "http://proxy.example:3128"
    assert not config.warnings
    (idle,) = read(tmp_path, 'relay_timeout = "5s"').warnings
    assert "has no effect without a url" in idle


@pytest.mark.parametrize(
    "url", ["cdn.segment.com", "ftp://cdn.segment.com", "https://a@b/", "https://"]
)
def test_the_address_of_a_cdn_is_a_url(tmp_path: Path, url: str) -> None:
    """A `cdn_url` that cannot be fetched from is a mistake in the configuration."""
    with pytest.raises(ConfigError, match="cdn_url: must be an http or https URL"):
        read(tmp_path, f'cdn_url = "{url}"')


def test_a_file_is_explained(tmp_path: Path) -> None:
    """Explaining a file's request says that it is no event, whether the source relays or not."""
    explainer = Explainer(read(tmp_path, f'{CDN}\nurl = "https://api.segment.io"'), PLUGINS)
    told = explainer.explain(ExplainRequest(b"", path="GET /v1/projects/k/settings"))
    assert told.refusal is not None
    assert told.refusal.reason == "it is a file for pages, no event"
