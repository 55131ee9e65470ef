"""Device keys: RSA keys are slow to make, so they are made on threads and kept on disk."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class KeyStore:
    """Keys by name. With a folder a key is made once and found again in the next run.

    `shared` lets that many keys serve a whole fleet, for load tests: making 10,000 keys takes
    minutes. OpenSSL makes keys without holding the interpreter's lock, so threads suffice.
    """

    def __init__(
        self, folder: Path | None = None, *, workers: int = 2, shared: int | None = None
    ) -> None:
        self._folder = folder
        self._shared = shared
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="keys")

    async def get(self, index: int, life: int, bits: int = 2048) -> rsa.RSAPrivateKey:
        """The key of device `index` in its `life`th enrollment."""
        name = f"{index}-{life}" if self._shared is None else f"shared-{index % self._shared}"
        path = self._folder / f"{name}-{bits}.der" if self._folder else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _make_or_load, path, bits)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def _make_or_load(path: Path | None, bits: int) -> rsa.RSAPrivateKey:
    if path is not None and path.exists():
        return load(path.read_bytes())
    key = rsa.generate_private_key(65537, bits)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_bytes(dump(key))
        temporary.replace(path)
    return key


def dump(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load(data: bytes) -> rsa.RSAPrivateKey:
    # Checking a key takes 40 ms; these were made by this program.
    key = serialization.load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the key file holds no RSA key")
    return key
