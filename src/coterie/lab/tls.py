"""Certificates of a throw-away authority, made by the `openssl` program, valid for a week."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

__all__ = ["Certificates", "make_certificates"]

_DAYS = "7"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files in PEM: the authority's certificate, and a certificate with its key for servers and clients."""

    ca: Path
    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority only, and presents the client's certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.key)
        return context


async def make_certificates(folder: Path, hosts: list[str]) -> Certificates:
    """Make an authority and one certificate for localhost and the IP addresses `hosts`.

    Raises:
        LabError: `openssl` is missing or failed.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise LabError("openssl is not installed", hint="apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(ca=folder / "ca.pem", certificate=folder / "member.pem", key=folder / "member.key")
    names = ",".join(["DNS:localhost", "IP:127.0.0.1", *(f"IP:{host}" for host in hosts)])
    ca_key = folder / "ca.key"
    new = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {_DAYS}".split()
    use = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    await _run([*new, *use, "-subj", "/O=coterie lab", "-keyout", str(ca_key), "-out", str(made.ca)])
    use = f"-addext subjectAltName={names} -addext extendedKeyUsage=serverAuth,clientAuth".split()
    use += ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(made.ca), "-CAkey", str(ca_key)]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    # No common name: etcd refuses passwords beside one.
    await _run([*new, *use, "-subj", "/O=member", *files])
    made.key.chmod(0o600)
    return made


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise LabError(f"openssl failed: {output.decode(errors='replace')[-500:]}")
