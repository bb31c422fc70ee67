"""Reading a valid configuration."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config.docstrings import documented_keys
from gateway.config.loader.load import load, load_spool
from gateway.config.models import TABLES
from gateway.config.reference import reference
from gateway.config.types import Address
from gateway.errors import ConfigError, PluginError
from gateway.plugin.quantities import duration, rate, shown, size
from gateway.plugin.registry import load_plugins
from tests.gateway.config_loading import FINE, AcmeOutput, read, registry

ROOT = Path(__file__).parents[2]
FULL = """
[server]
listen = "[::1]:9000"
max_body = "2MiB"
drain_timeout = "500ms"
[spool]
path = "here/spool"
max_bytes = "1GiB"
max_age = "2h"
on_full = "dead_letter"
[sources.shop-1]
vendor = "acme"
keys = ["a", "b"]
mount = "/shop/a"
hosts = ["A.example", "b.example"]
dedup = "10m"
[sources.shop_2]
vendor = "acme"
keys = "any"
[destinations.crm]
vendor = "acme"
url = "https://crm.example/prefix"
token = "crm-token"
mode = "fast"
concurrency = 3
timeout = 2.5
max_attempts = 7
retry_min = "2s"
retry_max = "1h"
rate = "120/m"
burst = 10
max_backlog = 5000
on_full = "refuse"
passthrough = true
[destinations.plain]
vendor = "acme"
token = "plain-token"
max_backlog = 0
[[routes]]
name = "orders"
from = ["shop-1"]
to = ["crm", "plain"]
types = ["track", "identify"]
names = ["Order *"]
[[routes]]
to = ["plain"]
"""


def test_every_key_arrives(tmp_path: Path) -> None:
    """Every key's value reaches the models, in seconds, bytes and attempts per second."""
    config = read(tmp_path, FULL)
    assert config.path == tmp_path / "gateway.toml"
    assert config.server.address == Address("::1", 9000)
    assert (config.server.max_body, config.server.drain_timeout) == (2 * 1024**2, 0.5)
    spool = config.spool
    assert spool.path == Path("here/spool")
    assert (spool.max_bytes, spool.max_age, spool.on_full) == (1024**3, 7200, "dead_letter")
    shop = config.sources["shop-1"]
    assert [key.get_secret_value() for key in shop.keys if key != "any"] == ["a", "b"]  # type: ignore[union-attr]  # a list of credentials
    assert (shop.mount, shop.hosts, shop.dedup) == ("/shop/a", ("a.example", "b.example"), 600)
    assert config.sources["shop_2"].keys == "any"
    crm = config.destinations["crm"]
    assert isinstance(crm.settings, AcmeOutput.Config)
    assert crm.settings.url == "https://crm.example/prefix"
    assert crm.settings.token.get_secret_value() == "crm-token"
    assert (crm.concurrency, crm.timeout, crm.max_attempts) == (3, 2.5, 7)
    assert (crm.retry_min, crm.retry_max, crm.rate, crm.burst) == (2, 3600, 2, 10)
    assert (crm.max_backlog, crm.on_full, crm.passthrough) == (5000, "refuse", True)
    orders = config.routes[0]
    assert (orders.name, orders.sources, orders.to) == ("orders", ("shop-1",), ("crm", "plain"))
    assert (orders.types, orders.names) == (("track", "identify"), ("Order *",))


def test_missing_keys_have_defaults(tmp_path: Path) -> None:
    """A destination's default ``on_full`` is the spool's; a route's default name is its number."""
    config = read(tmp_path, FULL)
    plain, every = config.destinations["plain"], config.routes[1]
    assert (plain.on_full, plain.max_backlog, plain.rate) == ("dead_letter", None, None)
    assert (every.name, every.sources, every.types, every.names) == ("route 2", None, None, None)
    small = read(tmp_path, FINE)
    assert small.server.address == Address("127.0.0.1", 8080)
    assert small.destinations["crm"].on_full == "refuse"
    assert small.sources["shop"].mount == ""
    assert small.warnings == ()


def test_a_configuration_cannot_change(tmp_path: Path) -> None:
    """The models cannot be changed after loading."""
    config = read(tmp_path, FINE)
    for model in (config.server, config.sources["shop"], config.destinations["crm"]):
        with pytest.raises(ValidationError):
            model.vendor = "other"  # type: ignore[union-attr]  # that is the point


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080), True),
        ("127.9.9.9:0", ("127.9.9.9", 0), True),
        ("[::1]:8080", ("::1", 8080), True),
        ("localhost:65535", ("localhost", 65535), True),
        (":8080", (None, 8080), False),
        ("0.0.0.0:80", ("0.0.0.0", 80), False),  # noqa: S104 - that is what is tested
        ("[::]:80", ("::", 80), False),
        ("gateway.internal:80", ("gateway.internal", 80), False),
    ],
)
def test_where_to_listen(
    tmp_path: Path, *, listen: str, address: tuple[str | None, int], loopback: bool
) -> None:
    """A listen address is an optional host and a port, and loopback hosts are recognised."""
    found = read(tmp_path, FINE, listen=listen).server.address
    assert found == address
    assert found.loopback is loopback


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("3", 3), (0, 0)],
)
def test_durations(text: object, seconds: float) -> None:
    """A duration is a number with a unit, or a number of seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("1MiB", 1024**2), ("10GiB", 10 * 1024**3), ("500kB", 500_000), ("0.5KiB", 512), (7, 7)],
)
def test_sizes(text: object, count: int) -> None:
    """A size is a number with a unit, or a number of bytes."""
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "per_second"), [("50/s", 50), ("600 / m", 10), ("1800/h", 0.5), (5, 5), ("2.5", 2.5)]
)
def test_rates(text: object, per_second: float) -> None:
    """A rate is a number per second, minute or hour; without a unit, per second."""
    assert rate(text) == per_second


@pytest.mark.parametrize("text", ["7d", "90m", "2h", "10s", "250ms", "1d"])
def test_durations_are_shown_as_they_are_written(text: str) -> None:
    """A displayed duration reads back as the same duration."""
    seconds = duration(text)
    assert isinstance(seconds, float)
    assert shown(seconds, "duration") == text


@pytest.mark.parametrize("text", ["10GiB", "1MiB", "1500B", "256KiB"])
def test_sizes_are_shown_as_they_are_written(text: str) -> None:
    """A displayed size reads back as the same size."""
    count = size(text)
    assert isinstance(count, int)
    assert shown(count, "size") == text


def test_an_unused_source_or_destination_is_a_warning(tmp_path: Path) -> None:
    """A source or destination that no route uses draws a warning with its place."""
    more = '[sources.lonely]\nvendor = "horn"\nkeys = ["x"]\nmount = "/h"\n'
    idle = '[destinations.idle]\nvendor = "acme"\ntoken = "t"\nburst = 5\n'
    text = f"{FINE}from = ['shop']\n{more}{idle}"
    warnings = [w.removeprefix(f"{tmp_path}/") for w in read(tmp_path, text).warnings]
    assert warnings == [
        (
            "gateway.toml:11: [sources.lonely]: no route takes its events: they are accepted and "
            "not delivered; add a route"
        ),
        (
            "gateway.toml:15: [destinations.idle]: no route leads to it, so it gets no events; "
            "add a route"
        ),
        (
            "gateway.toml:18: [destinations.idle] burst: has no effect without rate; add rate, or "
            "remove burst"
        ),
    ]


def test_an_open_source_with_keys_is_a_warning(tmp_path: Path) -> None:
    """``allow_any_key`` with a list of keys has no effect, and draws a warning."""
    config = read(tmp_path, FINE.replace("[destinations", "allow_any_key = true\n[destinations"))
    (warning,) = config.warnings
    assert "[sources.shop] allow_any_key: has no effect with a list of keys" in warning


def test_sources_with_and_without_hosts_do_not_overlap(tmp_path: Path) -> None:
    """Sources with different hosts, different mounts, or hosts beside none do not overlap."""
    text = FINE + "".join(
        f'[sources.{name}]\nvendor = "acme"\nkeys = ["x"]\n{more}\n'
        for name, more in (
            ("one", 'hosts = ["a.example"]'),
            ("two", 'hosts = ["b.example"]'),
            ("three", 'mount = "/three"'),
            ("four", 'mount = "/three"\nhosts = ["a.example"]'),
        )
    )
    assert len(read(tmp_path, text).sources) == 5


def test_the_spool_alone_can_be_read(tmp_path: Path) -> None:
    """The spool's settings load although other tables are wrong."""
    path = tmp_path / "gateway.toml"
    path.write_text('[spool]\npath = "${PLACE}/spool"\n[destinations.x]\ntoken = "${UNSET}"\n')
    assert load_spool(path, {"PLACE": "/srv"}).path == Path("/srv/spool")
    path.write_text("")
    assert load_spool(path, {}).path == Path("var/spool")
    path.write_text('spool = "var"')
    with pytest.raises(ConfigError, match=r"spool: must be a table; write \[spool\]"):
        load_spool(path, {})


def test_a_plugin_may_not_take_a_shared_key(tmp_path: Path) -> None:
    """An output whose settings redefine a key of every destination is an error."""

    class Clashing(AcmeOutput):
        class Config(AcmeOutput.Config):
            timeout: int = 3

    known = registry()
    known.outputs["acme"] = Clashing
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    with pytest.raises(
        PluginError, match="'timeout', but every destination has a key of that name"
    ):
        load(path, known, {})


@pytest.mark.parametrize(
    "path", [ROOT / "config/gateway.toml", *sorted((ROOT / "config/examples").glob("*.toml"))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_the_files_in_config_load_without_warnings(path: Path, tmp_path: Path) -> None:
    """Every file in config/ loads without a warning if its variables are set."""
    for name in ("chrts_api_key", "growlytics_api_key"):
        (tmp_path / name).write_text(f"{name}-from-its-file\n")
    names = re.findall(r"\$\{(\w+)", path.read_text())
    environ = {name: f"value-of-{name}" for name in names}
    config = load(path, load_plugins(), {**environ, "SECRETS": str(tmp_path)})
    assert config.routes
    assert config.warnings == ()


def test_the_first_file_needs_no_environment() -> None:
    """config/gateway.toml needs no variables, has every format, and listens on loopback."""
    vendors = load_plugins()
    config = load(ROOT / "config/gateway.toml", vendors, {})
    assert config.server.address.loopback
    assert set(config.sources) == set(config.destinations) == set(vendors.formats)
    assert all(
        to.settings.url == f"http://127.0.0.1:9100/{to.vendor}"
        for to in config.destinations.values()
    )


def test_the_first_file_takes_the_vendors_examples() -> None:
    """Each source of config/gateway.toml accepts the credential in its vendor's example."""
    vendors = load_plugins()
    for source in load(ROOT / "config/gateway.toml", vendors, {}).sources.values():
        reads = vendors.inputs[source.vendor]()
        payload = reads.decode(reads.example) if reads.credential_in_body else None
        keys = {key.get_secret_value() for key in source.keys if not isinstance(key, str)}
        assert reads.credential(reads.example, payload) in keys, source.vendor


def test_every_key_is_documented() -> None:
    """Each key of each table and each vendor has a sentence in the reference."""
    vendors = load_plugins()
    text = reference(vendors)
    settings = {name: output.Config for name, output in vendors.outputs.items()}
    for table, model in {**TABLES, **settings}.items():
        for key, field in documented_keys(model).items():
            assert field.description, f"{table}.{key} has no docstring"
            assert field.description.strip()[-1] in ".:", f"{table}.{key}: no whole sentence"
            words = " ".join(field.description.split()[:4]).replace("``", "`")
            assert any(
                line.startswith(f"| `{key}` |") and words in line for line in text.splitlines()
            ), f"{table}.{key} is not in the reference"


def test_the_reference_has_type_default_and_meaning() -> None:
    """A reference row has the key, its type, its default as written, and its meaning."""
    text = reference(registry())
    assert '| `max_body` | size | `"1MiB"` | The largest accepted request body' in text
    assert '| `on_full` | `"refuse"` or `"dead_letter"` | `"refuse"` |' in text
    assert "| `rate` | rate |  |" in text
    assert "| `token` | credential | required | The token of the account. It is long. |" in text
    assert "| `words` | table of texts |  | Ours to theirs. |" in text
    assert '| `keys` | list of credentials or `"any"` | required |' in text
