"""The service of systemd works as its page says."""

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.debian import Running, copy_root, machine
from tests.docs.pages import ROOT

pytestmark = pytest.mark.xdist_group("deploy")

PAGE = ROOT / "docs/deploy/systemd.md"
README = ROOT / "README.md"
ADMIN = ROOT / "docs/admin.md"
SIGN_IN = """
import http.server, re
class Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = re.search("session=(\\\\w+):([\\\\w-]+)", self.headers.get("Cookie", ""))
        self.send_response(401 if self.path == "/oauth2/auth" and not found else 202)
        if found:
            self.send_header("X-Auth-Request-Email", found[1] + "@shop.example")
            self.send_header("X-Auth-Request-Groups", "staff," + found[2])
        self.end_headers()
        self.wfile.write(b"sign in, please")
http.server.HTTPServer(("127.0.0.1", 4180), Proxy).serve_forever()
"""
"""Answers as oauth2-proxy does: about each request, and with a page to sign in."""
CLONE = "/usr/local/src/cdp-gateway"
MOST_EXPOSED = 2.0
"""The highest exposure that `systemd-analyze security` may tell, of 10."""


def _log(running: Running) -> str:
    return running.run("journalctl --unit cdp-gateway --output cat").stdout


def test_the_page_leads_from_a_clean_debian_to_a_service_behind_nginx(
    debian: Path, checkout: Path, roots: Path, tmp_path: Path
) -> None:
    """The page's commands, as they stand there, end with the answer of a vendor through nginx."""
    root = copy_root(debian, roots / "root")
    shutil.copytree(checkout, root / CLONE.lstrip("/"))
    with machine(root, tmp_path / "console") as running:
        answers = []
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL):
            online = "apt-get" in block
            said = running.run(f"set -e\n{block}", CLONE, online=online)
            assert said.returncode == 0, f"{block}\n{said.stdout}\n{said.stderr}\n{_log(running)}"
            answers.append(said.stdout)
        *_, accepted, traced = answers
        assert accepted == '{"status":"success"}'
        assert "crm" in traced
        _nginx_answers_the_readmes_request(running)
        _people_sign_in_at_nginx(running, root)
        _nginx_hides_health_pages_and_lets_refusals_pass(running)
        _the_service_is_hardened(running)
        _the_service_is_reloaded_and_restarted(running)


def _nginx_answers_the_readmes_request(running: Running) -> None:
    """The README's first request is answered through nginx, on its port."""
    (request,) = re.findall(r"```sh\n(curl -i .*?)```", README.read_text(), re.DOTALL)
    said = running.run(request.replace(":8080", "")).stdout
    assert said.startswith("HTTP/1.1 200"), said
    assert "\nServer: nginx" in said
    assert said.endswith('{"status":"success"}')


def _people_sign_in_at_nginx(running: Running, root: Path) -> None:
    """With the files of docs/admin.md a proxy names people, and nobody can name themselves."""
    _install_sign_in(running, root)
    call = "curl --silent --header 'Host: gateway.shop.example'"
    me = "http://127.0.0.1/api/v1/me"
    claims = "--header 'X-Auth-Request-Email: olga' --header 'X-Auth-Request-Groups: cdp-operators'"
    said = running.run(f"{call} --cookie session=olga:cdp-operators {me}").stdout
    assert said == '{"name":"olga@shop.example","role":"operator"}', _log(running)
    said = running.run(f"{call} --cookie session=bob:staff {claims} {me}").stdout
    assert said == '{"name":"bob@shop.example","role":"viewer"}'
    assert running.run(f"{call} {claims} {me}").stdout == "sign in, please"
    direct = f"curl --silent {claims} http://127.0.0.1:8081/api/v1/me"
    assert "a token of [admin] is required" in running.run(direct).stdout


def _install_sign_in(running: Running, root: Path) -> None:
    """Install the page's settings, nginx's file, and a stand-in for oauth2-proxy."""
    settings = root / "etc/cdp-gateway"
    (lines,) = re.findall(r"```toml\n\[admin\]\n(hosts.*?)```", ADMIN.read_text(), re.DOTALL)
    text = (settings / "gateway.toml").read_text()
    own = lines.replace("/run/secrets", "/etc/cdp-gateway/secrets")
    (settings / "gateway.toml").write_text(re.sub(r"hosts = .*\n", lambda _: own, text))
    secret = "a-secret-of-nginx-and-the-gateway"  # noqa: S105 - it opens nothing
    (settings / "secrets/admin_proxy").write_text(secret)
    header = f'proxy_set_header X-Gateway-Proxy-Secret "{secret}";\n'
    (root / "etc/nginx/cdp-gateway-secret.conf").write_text(header)
    (root / "root/sign_in.py").write_text(SIGN_IN)
    ready = "curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:4180/"
    said = running.run(
        f"set -e\ncp {CLONE}/config/deploy/nginx-console.conf /etc/nginx/conf.d/\n"
        "chgrp cdp-gateway /etc/cdp-gateway/secrets/admin_proxy\n"
        "chmod 640 /etc/cdp-gateway/secrets/admin_proxy\n"
        f"systemd-run --quiet python3 /root/sign_in.py\n{ready}\n"
        "nginx -t\nsystemctl reload nginx\ngateway reload"
    )
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}\n{_log(running)}"


def _nginx_hides_health_pages_and_lets_refusals_pass(running: Running) -> None:
    status = "curl --silent --output /dev/null --write-out '%{http_code}'"
    assert running.run(f"{status} http://127.0.0.1/readyz").stdout == "404"
    large = "head --bytes 1500000 /dev/zero | tr '\\0' x | curl --silent --data-binary @- http://127.0.0.1/push"
    assert running.run(large).stdout.startswith('{"status":"error"'), running.run(large).stdout


def _the_service_is_hardened(running: Running) -> None:
    said = running.run("systemd-analyze security cdp-gateway | tail -n 2").stdout
    level = re.search(r"exposure level for cdp-gateway.service: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= MOST_EXPOSED
    verified = running.run("systemd-analyze verify /etc/systemd/system/cdp-gateway.service")
    assert (verified.returncode, verified.stderr) == (0, "")


def _the_service_is_reloaded_and_restarted(running: Running) -> None:
    """A reload takes effect, a crash is followed by a start, an invalid file by none."""
    assert running.run("systemctl reload cdp-gateway").returncode == 0, _log(running)
    pid = "systemctl show --property MainPID --value cdp-gateway"
    first = running.run(pid).stdout.strip()
    running.run(f"kill -9 {first}")
    ready = "curl --silent --fail --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:8080/readyz"
    assert running.run(ready).stdout.startswith("ok\n"), _log(running)
    assert running.run(pid).stdout.strip() not in {first, "0"}
    assert '"event":"reloaded"' in _log(running)
    stopped = running.run(
        "systemctl stop cdp-gateway && systemctl show --property Result --value cdp-gateway"
    )
    assert stopped.stdout == "success\n"
    running.run("echo 'nothing = 1' >> /etc/cdp-gateway/gateway.toml; systemctl start cdp-gateway")
    ended = "until systemctl is-failed --quiet cdp-gateway; do sleep 0.1; done"
    assert running.run(f"timeout 60 sh -c '{ended}'").returncode == 0, _log(running)
    said = running.run("systemctl show --property Result,NRestarts cdp-gateway").stdout
    assert set(said.split()) == {"Result=exit-code", "NRestarts=0"}
