"""How Google is asked: an API key, an access token, or the key file of a service account.

A service account signs its own token (AIP-4111): no second host is asked, and nothing is kept but what can be
computed again. The key of the channel is then the JSON of the key file.
"""

from functools import lru_cache
from typing import Literal

import msgspec
import pybase64
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bide.clock import Clock
from bide.providers.base import Call, Failed
from bide.providers.errors import HOUR_S

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_S, RENEW_S = 3600, 900
"""A token is good for an hour, and a new one is signed every quarter of one."""
Way = Literal["api_key", "bearer", "service_account"]
WAYS: tuple[Way, ...] = ("api_key", "bearer", "service_account")

_clock = Clock()


class _KeyFile(msgspec.Struct):
    client_email: str
    private_key: str
    private_key_id: str = ""
    project_id: str = ""


def way_of(call: Call, otherwise: Way) -> Way:
    """The option `auth`, or what the key looks like, or `otherwise`."""
    asked = call.options.get("auth")
    for way in WAYS:
        if asked == way:
            return way
    return "service_account" if call.key.lstrip().startswith("{") else otherwise


def headers(call: Call, way: Way) -> dict[str, str] | Failed:
    """Headers of one question; an empty one is left out (`bide.providers.exchange`)."""
    if way == "api_key":
        return {"Authorization": "", "x-goog-api-key": call.key}
    if way == "bearer":
        return {"Authorization": f"Bearer {call.key}"}
    try:
        return {"Authorization": f"Bearer {signed(call.key, _clock.now_ms() // 1000 // RENEW_S * RENEW_S)}"}
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return Failed("api_error", "The upstream refused the gateway's account.", "channel", cool_s=HOUR_S,
                      detail=f"the key is not that of a service account: {type(error).__name__}")  # fmt: skip


def project_of(key: str) -> str:
    """The project in a service account's key file, if it is one."""
    try:
        return msgspec.json.decode(key, type=_KeyFile).project_id if key.lstrip().startswith("{") else ""
    except msgspec.DecodeError:
        return ""


@lru_cache(maxsize=32)
def signed(key: str, at_s: int) -> str:
    """A token that a service account signs itself. Raises `ValueError` and `TypeError` for what is no such key."""
    file = msgspec.json.decode(key, type=_KeyFile)
    private = load_pem_private_key(file.private_key.encode(), None)
    if not isinstance(private, RSAPrivateKey):
        raise TypeError("not an RSA key")
    claims = {"iss": file.client_email, "sub": file.client_email, "scope": SCOPE, "iat": at_s, "exp": at_s + TOKEN_S}
    text = _part({"alg": "RS256", "typ": "JWT", "kid": file.private_key_id}) + b"." + _part(claims)
    return (text + b"." + _plain(private.sign(text, PKCS1v15(), SHA256()))).decode()


def _part(document: dict[str, object]) -> bytes:
    return _plain(msgspec.json.encode(document))


def _plain(data: bytes) -> bytes:
    return pybase64.urlsafe_b64encode(data).rstrip(b"=")
