"""Make the sources of a configuration, and the limits of their connections."""

import structlog

from gateway.config import Config, SourceConfig
from gateway.config.inputs import source_input
from gateway.config.loader.checks import served
from gateway.config.models import destinations_of
from gateway.config.proxy import proxy_of
from gateway.ingest.client import ClientCookie, ClientIdentifier, TrustedProxies
from gateway.ingest.connection_limits import ConnectionLimits, allow_files
from gateway.ingest.file_relay import FileCache, FileRelay
from gateway.ingest.relay import Relay, UpstreamAddress, UpstreamPool
from gateway.ingest.relay_key import RelayKeyExchange
from gateway.ingest.sources import Source, SourceIndex
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Input

log = structlog.get_logger()


def make_source_index(
    config: Config, registry: PluginRegistry, upstreams: UpstreamPool, files: FileCache
) -> SourceIndex:
    """Return the index of all sources in *config*.

    Args:
        config: of the gateway.
        registry: finds the vendors' plugins.
        upstreams: connections for relayed calls.
        files: the vendors' files that pages have loaded.
    """
    makers = (_SourceMaker(name, config, registry) for name in config.sources)
    return SourceIndex(maker.make(upstreams, files) for maker in makers)


class _SourceMaker:
    """Makes one source."""

    def __init__(self, name: str, config: Config, registry: PluginRegistry) -> None:
        self._name, self._config, self._registry = name, config, registry
        self._source = config.sources[name]
        self._input: Input = source_input(config, registry, name)

    def make(self, upstreams: UpstreamPool, files: FileCache) -> Source:
        """Return the source."""
        name, config, source = self._name, self._config, self._source
        server = config.server
        proxies = TrustedProxies(server.trusted_proxies, server.proxy_header)
        cookie = ClientCookie(source.cookie, source.cookie_domain, source.cookie_max_age)
        led = destinations_of(config.routes, name)
        return Source(
            name,
            self._input,
            None if source.keys == "any" else [key.get_secret_value() for key in source.keys],
            source.mount,
            source.hosts,
            dedup=source.dedup,
            origins=source.origins,
            clients=ClientIdentifier(source.client, proxies, cookie if source.cookie else None),
            relay=self._relay(upstreams) if source.url else None,
            plan=config.plans.get(name),
            secrets=[one.get_secret_value() for one in source.secrets],
            respond=source.respond_timeout if source.respond == "upstream" else None,
            keeps_client_key=any(config.destinations[to].credentials == "client" for to in led),
            traced=bool(config.trace.otlp_url),
            browser_headers=source.browser_headers,
            max_events=server.max_events,
            networks=source.networks,
            files=self._files(files) if self._input.files_url else None,
        )

    def _files(self, files: FileCache) -> FileRelay:
        proxy, patience = proxy_of(self._source.proxy), self._source.relay_timeout
        return FileRelay(self._name, files, self._input.files_url, proxy, patience)

    def _relay(self, upstreams: UpstreamPool) -> Relay:
        source, exchange = self._source, None
        keyed = self._config.destinations.get(source.relay_as)
        if keyed is not None:
            exchange = RelayKeyExchange(
                self._registry.outputs[keyed.vendor](keyed.settings),
                self._input,
                served(source, self._registry),
                [one.get_secret_value() for one in source.secrets],
            )
        upstream = upstreams.get(upstream_address(source))
        patience = self._config.server.upload_timeout
        return Relay(self._name, upstream, exchange, upload_timeout=patience)


def upstream_address(source: SourceConfig) -> UpstreamAddress:
    """Return where a source's calls are relayed to."""
    return UpstreamAddress(source.url, source.relay_timeout, proxy_of(source.proxy))


def limits_of(config: Config) -> ConnectionLimits:
    """Return the limits of client connections."""
    server = config.server
    most = allow_files(server.max_connections)
    each = server.max_connections_per_client or -(-most // 2)
    if most < server.max_connections:
        log.warning("file_limit_too_low", max_connections=server.max_connections, possible=most)
    return ConnectionLimits(
        header_timeout=server.header_timeout,
        body_timeout=server.body_timeout,
        idle_timeout=server.idle_timeout,
        max_connections=most,
        per_client=each,
        max_headers=server.max_headers,
        max_bodies=max(server.max_bodies, server.max_body),
    )
