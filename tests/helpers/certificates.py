"""Certificates for servers under test."""

import subprocess
from pathlib import Path


def self_signed(folder: Path, name: str, *others: str) -> tuple[Path, Path]:
    """A certificate for the name that nobody else signed, and its key; `others` as openssl takes them: `IP:127.0.0.1`."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    names = ["-addext", f"subjectAltName={','.join(others)}"] if others else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", *names,
         "-keyout", key, "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem, key
