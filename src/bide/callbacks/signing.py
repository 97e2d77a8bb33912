"""Signatures of callbacks: Standard Webhooks 1.0, symmetric (`v1`). Pure.

Signed is `{webhook-id}.{webhook-timestamp}.{body}` with HMAC-SHA256. A setting or a row holds one secret, or
several separated by white space while one is being replaced: then each signs, and a receiver accepts the
callback if any signature is that of the secret it knows.

A secret is `whsec_` and base64 of the key (the standard's form, any library verifies it), or any other text,
whose UTF-8 bytes are the key.
"""

import base64
import binascii
import hmac

PREFIX = "whsec_"


def keys(secret: str) -> tuple[bytes, ...]:
    """The keys of a setting, none if it is empty. Raises `ValueError` with a sentence that does not repeat it."""
    return tuple(_key(part) for part in secret.split())


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,<base64>`, once per secret. Raises `ValueError` as `keys` does."""
    message = f"{message_id}.{timestamp_s}.".encode() + body
    return " ".join(
        f"v1,{base64.b64encode(hmac.digest(key, message, 'sha256')).decode('ascii')}" for key in keys(secret)
    )


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"A webhook secret that begins with {PREFIX} must go on with base64 of at least one byte.")
    return key
