"""A server of the S3 API for tests: moto, over a socket; it checks signatures and permissions."""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from werkzeug.serving import BaseWSGIServer, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

ACCOUNT = "123456789012"
REGION = "us-east-1"
ACTIONS = ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:DeleteObject")
"""What a destination and ``gateway check --connect`` need."""


class AccessKey(NamedTuple):
    """The credentials of a user."""

    access_key: str
    secret_key: str


class S3Server:
    """The server, which can be away for a while; its buckets last until the end of the process.

    Attributes:
        requests: method, path and query of each request, in order.
    """

    def __init__(self) -> None:
        # importing it takes a second, which only tests with a server pay
        from moto import settings  # noqa: PLC0415
        from moto.iam.models import iam_backends  # noqa: PLC0415
        from moto.moto_server import werkzeug_app  # noqa: PLC0415
        from moto.s3.models import s3_backends  # noqa: PLC0415

        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0  # every request must be allowed
        self.requests: list[str] = []
        self._iam = iam_backends[ACCOUNT]["aws"]
        self._s3 = s3_backends[ACCOUNT]["aws"]
        self._app: Any = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
        silent = {"log": lambda *_: None}
        self._handler: Any = type("SilentHandler", (werkzeug_app.MotoRequestHandler,), silent)
        self._made = 0
        self._port = 0
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self.start()

    @property
    def url(self) -> str:
        """Return the address, which stays the same."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, at the former address if there was one."""
        server = make_server(
            "127.0.0.1", self._port, self._serve, threaded=True, request_handler=self._handler
        )
        self._server, self._port = server, server.server_port
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def _serve(self, environ: dict[str, Any], respond: "StartResponse") -> Iterable[bytes]:
        query = environ["QUERY_STRING"]
        path = environ["PATH_INFO"] + (f"?{query}" if query else "")
        self.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        answer: Iterable[bytes] = self._app(environ, respond)
        return answer

    def bucket(self) -> str:
        """Make a bucket; return its name."""
        self._made += 1
        name = f"events-{self._made}"
        self._s3.create_bucket(name, REGION)
        return name

    def user(self, *actions: str) -> AccessKey:
        """Make a user who may do these actions, by default `ACTIONS`; return the credentials."""
        self._made += 1
        name = f"user-{self._made}"
        self._iam.create_user(REGION, name)
        allowed = {"Effect": "Allow", "Action": actions or ACTIONS, "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [allowed]}
        self._iam.put_user_policy(name, "p", orjson.dumps(policy).decode())
        made = self._iam.create_access_key(name)
        return AccessKey(made.access_key_id, made.secret_access_key)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the content of a bucket, by name."""
        return {name: key.value for name, key in self._s3.get_bucket(bucket).keys.items()}

    def content_type(self, bucket: str, name: str) -> str:
        """Return the content type of an object."""
        return str(self._s3.get_bucket(bucket).keys[name].metadata["content-type"])
