"""Keys by which NATS knows who speaks: https://github.com/nats-io/nkeys."""

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED, USER = 18 << 3, 20 << 3


def _written(data: bytes) -> str:
    check = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + check).decode().rstrip("=")


@dataclass
class User:
    """A user's key."""

    key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> "User":
        return cls(Ed25519PrivateKey.generate())

    @property
    def seed(self) -> str:
        return _written(bytes([SEED | USER >> 5, (USER & 31) << 3]) + self.key.private_bytes_raw())

    @property
    def public(self) -> str:
        return _written(bytes([USER]) + self.key.public_key().public_bytes_raw())

    def signed(self, nonce: str) -> str:
        return base64.urlsafe_b64encode(self.key.sign(nonce.encode())).decode().rstrip("=")
