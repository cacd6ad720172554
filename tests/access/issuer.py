"""An issuer of OIDC tokens, like GitHub: it publishes its keys over HTTP."""

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "https://deploy.example.com"
REPOSITORY_ID = "1296269"


class Issuer:
    """Issue tokens. A test can take the issuer away, or change its keys and answers."""

    def __init__(self) -> None:
        self.keys = {"first": _FIRST}
        self.published = ["first"]
        self.requests: list[str] = []
        # When it isn't None, the issuer answers every request with this.
        self.answer: bytes | None = None
        # The issuer holds every answer until this is set.
        self.open_from = threading.Event()
        self.open_from.set()
        # The audiences that jobs asked a token for, and the claims that their tokens get.
        self.requested: list[str] = []
        self.claims: dict[str, object] = {}
        self._port = 0
        self.open()

    @property
    def url(self) -> str:
        """The URL of the issuer, which is its name too."""
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen, on the same port as before."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place = urlsplit(self.path)
                issuer.requests.append(place.path)
                issuer.open_from.wait()
                content = json.dumps(issuer.document(place.path, parse_qs(place.query))).encode()
                content = content if issuer.answer is None else issuer.answer
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def document(self, path: str, query: Mapping[str, list[str]]) -> dict:
        """Return the document at a path."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/token":
            self.requested += query.get("audience", [])
            return {"value": self.token(**{"aud": query["audience"][0], **self.claims})}
        return {"keys": [jwk(kid, self.keys[kid]) for kid in self.published]}

    def token(self, kid: str | None = "first", **claims: object) -> str:
        """Return a token of a push to master; claims that are None are left out."""
        headers = {"kid": kid} if kid else {}
        return jwt.encode(self.payload(**claims), self.keys.get(kid or "first"), algorithm="RS256", headers=headers)

    def payload(self, **claims: object) -> dict:
        """Return the claims of a token of a push to master; claims that are None are left out."""
        now = int(time.time())
        payload = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "repo:octocat/web:ref:refs/heads/master",
            "repository": "octocat/web",
            "repository_id": REPOSITORY_ID,
            "ref": "refs/heads/master",
            "event_name": "push",
            # GitHub's tokens are valid for some minutes, and from some minutes before their time of issue.
            "iat": now,
            "nbf": now - 300,
            "exp": now + 300,
        } | claims
        return {name: value for name, value in payload.items() if value is not None}

    def public_pem(self, kid: str = "first") -> bytes:
        """Return a public key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.keys[kid].public_key().public_bytes(serialization.Encoding.PEM, form)


def new_key() -> rsa.RSAPrivateKey:
    """Make a key."""
    return rsa.generate_private_key(65537, 2048)


def jwk(kid: str, key: rsa.RSAPrivateKey) -> dict:
    """Return the public half of a key as issuers publish it."""
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": kid, "alg": "RS256", "use": "sig"}


# Made once, since that takes a while.
_FIRST = new_key()
