"""The files for containers and clusters agree with each other, with the image and with the code."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no annotations
import pytest
import yaml

from gateway.config.loader.load import load
from gateway.plugin.registry import load_plugins
from tests.deploy.dockerfile import instructions
from tests.docs.pages import ROOT

DEPLOY = ROOT / "config/deploy"
KUBERNETES = "1.34"
"""The version whose schemas the manifests follow."""


def said() -> dict[str, str]:
    """Return the instructions of the Dockerfile's last stage."""
    return dict(instructions((DEPLOY / "Dockerfile").read_text()))


def variables() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(pair.split("=", 1) for pair in said()["ENV"].split())


def documents(path: Path) -> list[Any]:
    """Return the documents in a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


KUSTOMIZATION = documents(DEPLOY / "kustomization.yaml")[0]
MANIFESTS = [one for name in KUSTOMIZATION["resources"] for one in documents(DEPLOY / name)]
STATEFUL = next(one for one in MANIFESTS if one["kind"] == "StatefulSet")
POD = STATEFUL["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
COMPOSE = documents(DEPLOY / "compose.yaml")[0]


def secrets() -> set[str]:
    """Return the names of the credentials that the configuration reads."""
    text = (DEPLOY / "gateway.toml").read_text()
    return set(re.findall(r"file:\$\{GATEWAY_SECRETS\}/(\w+)", text))


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_a_manifest_follows_the_schema(manifest: Any) -> None:
    """Each manifest follows the schema of its kind, without unknown fields."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_manifest_is_used_or_explained() -> None:
    """Each file is a resource, or a page says when to add it."""
    page = (ROOT / "docs/deploy/kubernetes.md").read_text()
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        assert f"kubernetes/{path.name}" in KUSTOMIZATION["resources"] or path.name in page


def test_services_and_policies_select_the_pod() -> None:
    """Selectors match the pod's labels, and ports are those of the container."""
    labels = STATEFUL["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert {str(port) for port in ports.values()} == set(said()["EXPOSE"].split())
    for one in MANIFESTS:
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            assert spec["selector"] == labels
            assert {port["targetPort"] for port in spec["ports"]} <= set(ports)
        if one["kind"] == "NetworkPolicy":
            assert spec["podSelector"]["matchLabels"] == labels
            assert {port["port"] for rule in spec["ingress"] for port in rule["ports"]} <= set(
                ports
            )
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == "http"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_pod_mounts_what_the_configuration_reads() -> None:
    """Spool, configuration and credentials are mounted where the gateway looks for them."""
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}
    env = variables() | {one["name"]: one["value"] for one in CONTAINER["env"]}
    assert mounts["spool"] == said()["VOLUME"]
    assert str(Path(env["GATEWAY_CONFIG"]).parent) == mounts["config"]
    assert env["GATEWAY_SECRETS"] == mounts["secrets"]
    assert KUSTOMIZATION["configMapGenerator"][0]["files"] == [Path(env["GATEWAY_CONFIG"]).name]
    assert POD["securityContext"]["runAsUser"] == int(said()["USER"])
    page = (ROOT / "docs/deploy/kubernetes.md").read_text()
    assert set(re.findall(r"--from-literal=(\w+)=", page)) == secrets()


def test_compose_names_what_exists() -> None:
    """Files, secrets, volumes and ports of compose.yaml exist, and each credential is a secret."""
    assert set(COMPOSE["secrets"]) == set(COMPOSE["services"]["gateway"]["secrets"]) == secrets()
    ports = {one.rsplit(":", 1)[1] for one in COMPOSE["services"]["gateway"]["ports"]}
    assert ports == set(said()["EXPOSE"].split())
    for service in COMPOSE["services"].values():
        for mount in service["volumes"]:
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), mount
    build = COMPOSE["services"]["gateway"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_prometheus_asks_the_admin_address_with_its_token() -> None:
    """The scrape names the gateway's service, a host that the admin API allows, and the token."""
    job = documents(DEPLOY / "compose/prometheus.yml")[0]["scrape_configs"][0]
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    assert job["job_name"] == "gateway"
    assert host in COMPOSE["services"]
    assert COMPOSE["services"]["gateway"]["environment"]["GATEWAY_ADMIN_HOST"] == host
    assert port in said()["EXPOSE"].split()
    assert (
        Path(job["authorization"]["credentials_file"]).name
        in COMPOSE["services"]["prometheus"]["secrets"]
    )


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the image's variables, and make the credentials."""
    for name in secrets():
        (tmp_path / name).write_text(f"a credential of its own: {name}")
    for name, value in variables().items():
        if name.startswith("GATEWAY_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("GATEWAY_SECRETS", str(tmp_path))
    return tmp_path


def test_the_configuration_is_valid_in_the_image(placed: Path) -> None:
    """The configuration loads with the image's variables, and keeps its spool on the volume."""
    assert placed
    config = load(DEPLOY / "gateway.toml", load_plugins())
    assert config.server.listen == variables()["GATEWAY_LISTEN"]
    assert config.spool.path.is_relative_to(said()["VOLUME"])
