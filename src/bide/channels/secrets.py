"""What is secret of a channel, at rest: sealed with AES-256-GCM (NIST SP 800-38D) under the gateway's secret key.

    sealed = 1 byte version · 12 bytes nonce · ciphertext · 16 bytes tag

The channel's name is authenticated with it, so that what was sealed for one opens for no other. The secret key is
`BIDE_SECRET_KEY`, or a file in the data directory that is made when something is sealed for the first time. Opening
never makes one: a machine that lacks the key says so instead of going on with another.
"""

import contextlib
import hmac
import os
import secrets
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from bide.errors import GatewayError
from bide.settings import Settings

FILE = "secret.key"
SHORTEST = 32
"""Characters of a secret key: 128 bits at the least if it is made by chance, in hex."""
END_OF_MIN = 12
"""Characters of a key whose last four may be shown."""

_VERSION = b"\x01"
_NONCE_BYTES = 12


class SealError(GatewayError):
    """The secret key is missing, too short, or another one."""


class Sealer:
    """Seals and opens with the secret key of some settings, which is looked for when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._text, self._file = settings.secret_key, Path(settings.data_dir) / FILE
        self._cipher: Any = None
        self.made: Path | None = None
        """The key file, if it was made just now: the operator is to be told."""

    def seal(self, name: str, plain: bytes) -> bytes:
        """Raises `SealError`, or `OSError` when a key file cannot be made."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._opened(make=True).encrypt(nonce, plain, name.encode("utf-8", "surrogatepass"))
        return _VERSION + nonce + sealed

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """What was sealed for the channel of this name. Raises `SealError` with what to do."""
        cipher, rest = self._opened(make=False), sealed[len(_VERSION) :]
        if sealed.startswith(_VERSION) and len(rest) > _NONCE_BYTES:
            with contextlib.suppress(import_module("cryptography.exceptions").InvalidTag):
                nonce, text = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
                opened: bytes = cipher.decrypt(nonce, text, name.encode("utf-8", "surrogatepass"))
                return opened
        raise SealError(
            f"what is kept of the key of {name!r} cannot be opened with this secret key: give this process the"
            " BIDE_SECRET_KEY it was sealed with, or set the key again with 'bide channel update'"
        )

    def _opened(self, *, make: bool) -> Any:
        """The cipher. It is loaded here, since a gateway without such channels does without it."""
        if self._cipher is None:
            text = self._text or self._of_file(make=make)
            if len(text) < SHORTEST:
                where = "BIDE_SECRET_KEY" if self._text else str(self._file)
                raise SealError(f"{where}: a secret key has {SHORTEST} characters or more")
            key = hmac.digest(text.encode("utf-8", "surrogatepass"), b"bide: keys of channels", "sha256")
            self._cipher = import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)
        return self._cipher

    def _of_file(self, *, make: bool) -> str:
        try:
            if make and not self._file.exists():
                self._make()
            return self._file.read_text("utf-8").strip()
        except FileNotFoundError:
            raise SealError(f"there is no secret key: neither BIDE_SECRET_KEY nor {self._file}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SealError(f"the secret key in {self._file} cannot be read or made: {error}") from None

    def _make(self) -> None:
        """Writes a new key for its owner alone. Whoever comes second has the first one's."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=self._file.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, self._file)
                self.made = self._file
            _sync(self._file.parent)
        finally:
            os.unlink(name)


def _sync(directory: Path) -> None:
    """What is sealed must not outlive its key: the file's name is on disk before anything is."""
    with contextlib.suppress(OSError):  # not every system lets a directory be opened
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def end_of(key: str) -> str:
    """The last four characters, so that people can tell keys apart; nothing of one that is so short that four are
    much of it."""
    return key[-4:] if len(key) >= END_OF_MIN else ""
