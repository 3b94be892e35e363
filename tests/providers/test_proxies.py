from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from synth_cli.core.ports import HttpCall, TransportError
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.proxies import CA_VARIABLES, proxy_for, tls_context


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "http://low:1"),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"ALL_PROXY": "p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "test"}, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": " a.b , .x.test"}, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "*.x.test"}, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "api.x.test:443"}, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "api.x.test:80"}, "http://p"),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "i.x.test"}, "http://p"),
        ({"HTTPS_PROXY": "p", "NO_PROXY": ","}, "http://p"),
    ],
)
def test_the_environment_names_the_proxy(environ: dict[str, str], proxy: str | None) -> None:
    """By scheme, lower case first, except for the hosts in NO_PROXY and those below them."""
    assert proxy_for("https", "API.x.test", 443, environ) == proxy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but a user who names it trusts."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl cannot make a certificate: {error}")
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest.mark.parametrize("name", [*CA_VARIABLES, None])
def test_a_certificate_authority_of_ones_own_is_trusted(certificate: Path, name: str | None) -> None:
    """Named by any of the usual variables it is; without one the server is refused."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        transport = AiohttpTransport(environ={name: str(certificate)} if name else {})
        try:
            if name:
                assert (await transport.send(HttpCall("POST", url, body=b""))).body == b"hi"
            else:
                with pytest.raises(TransportError, match=r"127\.0\.0\.1 is not trusted: self-signed.*SSL_CERT_FILE"):
                    await transport.send(HttpCall("POST", url, body=b""))
        finally:
            await transport.close()
            server.close()

    asyncio.run(run())


def test_a_bundle_that_cannot_be_read_is_a_fault() -> None:
    """The message names the variable and the file; nothing is sent unverified."""

    async def run() -> None:
        transport = AiohttpTransport(environ={"SSL_CERT_FILE": "/nowhere/ca.pem"})
        try:
            with pytest.raises(TransportError, match=r"SSL_CERT_FILE=/nowhere/ca.pem: No such file"):
                await transport.send(HttpCall("POST", "https://127.0.0.1:1/", body=b""))
        finally:
            await transport.close()

    asyncio.run(run())
    with pytest.raises(OSError, match=r"SSL_CERT_FILE=/nowhere/ca.pem: No such file"):
        tls_context({"SSL_CERT_FILE": "/nowhere/ca.pem"})


def test_a_bundle_without_certificates_is_named(tmp_path: Path) -> None:
    """OpenSSL itself says only that its data is wrong."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing")
    with pytest.raises(OSError, match=r"CURL_CA_BUNDLE=.*ca.pem: no certificates in PEM"):
        tls_context({"CURL_CA_BUNDLE": str(bundle)})
