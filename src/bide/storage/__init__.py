"""Where results live: a local directory, or a bucket. What is sold is bytes; this layer keeps them."""

from pathlib import Path

from bide.clock import Clock
from bide.settings import Settings
from bide.storage.base import Opened, Storage, is_name, is_public
from bide.storage.local import LocalStorage
from bide.storage.s3 import S3Storage
from bide.storage.spool import Spool

__all__ = ["Opened", "Spool", "Storage", "is_name", "is_public", "open_storage"]


def open_storage(settings: Settings, clock: Clock | None = None) -> Storage:
    """The store of these settings. Raises `SettingsError` for a `storage_url` that names none.

    Made once for a process, by whoever runs its event loop; ended by `close`.
    """
    if settings.storage_url:
        return S3Storage(settings, clock)
    return LocalStorage(Path(settings.data_dir) / "files", clock)
