"""What is particular to the bucket."""

import asyncio
from pathlib import Path

import boto3
import obstore
import pytest
from obstore.store import S3Store

from bide.settings import Settings
from bide.storage import open_storage

PNG = b"\x89PNG\r\n\x1a\n"


def settings_of(data_dir: Path, server: str, url: str) -> Settings:
    return Settings(
        data_dir=str(data_dir), storage_url=url, s3_endpoint=server, s3_access_key_id="k", s3_secret_access_key="s"
    )


def bucket(server: str) -> S3Store:
    """The bucket as somebody else sees it."""
    return S3Store(
        "results",
        config={"endpoint": server, "region": "us-east-1", "access_key_id": "k", "secret_access_key": "s"},
        client_options={"allow_http": True},
    )


def keys(server: str) -> list[str]:
    return [about["path"] for page in obstore.list(bucket(server)) for about in page]


@pytest.mark.parametrize("size", [100, 2_000_000, 12_000_000])
def test_an_object_has_its_prefix_and_the_type_of_its_content(tmp_path: Path, object_server: str, size: int) -> None:
    async def main() -> str:
        storage = open_storage(settings_of(tmp_path, object_server, "s3://results/a/b/"))
        sink = storage.sink(size + 8)
        await sink.write(PNG + bytes(size))
        name = (await sink.close()).name
        await storage.close()
        return name

    name = asyncio.run(main())
    found = obstore.get(bucket(object_server), f"a/b/{name}")
    assert found.attributes["Content-Type"] == "image/png"
    assert bytes(found.bytes()) == PNG + bytes(size)


def test_nothing_reaches_the_bucket_before_the_file_is_closed(tmp_path: Path, object_server: str) -> None:
    async def main() -> None:
        storage = open_storage(settings_of(tmp_path, object_server, "s3://results/quiet"))
        sink = storage.sink(20_000_000)
        await sink.write(PNG + bytes(12_000_000))
        assert not [key for key in keys(object_server) if key.startswith("quiet/")]
        await sink.abort()
        assert not [key for key in keys(object_server) if key.startswith("quiet/")]
        await storage.close()

    asyncio.run(main())


def test_a_store_that_fails_says_so_with_an_os_error(tmp_path: Path, object_server: str) -> None:
    async def main() -> None:
        storage = open_storage(settings_of(tmp_path, object_server, "s3://no-such-bucket"))
        for size in (10, 6_000_000):
            sink = storage.sink(size + 8)
            await sink.write(PNG + bytes(size))
            with pytest.raises(OSError, match="not found"):
                await sink.close()
            await sink.abort()
        await storage.close()

    asyncio.run(main())


def test_an_upload_that_is_cancelled_leaves_no_object_and_no_parts(tmp_path: Path, object_server: str) -> None:
    async def main() -> None:
        storage = open_storage(settings_of(tmp_path, object_server, "s3://results/cut"))
        for wait_s in (0, 0.02, 0.05, 0.1):
            sink = storage.sink(30_000_000)
            await sink.write(PNG + bytes(22_000_000))
            closing = asyncio.ensure_future(sink.close())
            await asyncio.wait([closing], timeout=wait_s)
            closing.cancel()
            await asyncio.wait([closing])
            await sink.abort()
        await storage.close()

    asyncio.run(main())
    client = boto3.client(
        "s3", endpoint_url=object_server, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    assert "Uploads" not in client.list_multipart_uploads(Bucket="results")
    client.close()
    assert not [key for key in keys(object_server) if key.startswith("cut/")]
