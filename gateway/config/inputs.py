"""Make the inputs of the configured sources."""

from collections.abc import Mapping

from gateway.config.models import Config, SourceConfig
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Input


def source_input(config: Config, registry: PluginRegistry, name: str) -> Input:
    """Return the input of the source *name*, with its settings if the vendor has any."""
    source = config.sources[name]
    return make_input(registry, source, config.source_settings.get(name))


def make_input(
    registry: PluginRegistry, source: SourceConfig, settings: ConfigTable | None
) -> Input:
    """Return the input of *source* with its *settings*; None if the vendor has none."""
    kind = registry.inputs[source.vendor]
    if kind.Config is None or settings is None:
        return kind()
    keys = [] if source.keys == "any" else [key.get_secret_value() for key in source.keys]
    return kind(settings, keys)


def stored_inputs(config: Config, registry: PluginRegistry) -> dict[str, Input]:
    """Return the inputs that read stored requests; `stored_input` finds one of them."""
    found = {name: kind() for name, kind in registry.inputs.items()}
    for name in config.source_settings:
        vendor = config.sources[name].vendor
        found[f"{vendor}/{name}"] = source_input(config, registry, name)
    return found


def stored_input(inputs: Mapping[str, Input], vendor: str, source: str) -> Input | None:
    """Return the input that reads the stored requests of a source.

    It is the source's own if the vendor has settings for sources, else the vendor's; None if there
    is no such vendor any more.
    """
    return inputs.get(f"{vendor}/{source}") or inputs.get(vendor)
