"""`mlr serve`: the page, to this machine alone, until Ctrl-C."""

import http.client
import signal
import socket
import subprocess
import sys

import pytest

import mlr
from mlr.exports.export import render


@pytest.fixture(scope="module")
def served():
    """The port of the command, which ends with Ctrl-C and prints nothing about requests."""
    command = [sys.executable, "-m", "mlr", "serve", "--no-open"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        address = process.stdout.readline()
        assert address.startswith("http://127.0.0.1:"), address
        yield int(address.strip().strip("/").rpartition(":")[2])
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "\nmlr: interrupted\n")


def get(port, path="/", host="localhost", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers={"Host": host})
    response = connection.getresponse()
    return response, response.read()


def test_page_is_that_of_export(served):
    response, body = get(served)
    assert response.status == 200
    assert body.decode() == render(mlr.load("smile"))
    assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", "127.0.0.1:80", 200),
        ("/", "[::1]:80", 200),
        ("/", "evil.example", 421),
        ("/", "127.0.0.1.evil.example", 421),
        ("/", "", 421),
        ("/", "[", 421),
        ("/../README.md", "localhost", 404),
        ("/smile.npz", "localhost", 404),
    ],
)
def test_only_the_page_is_served_and_only_to_its_host(served, path, host, status):
    assert get(served, path, host)[0].status == status


def test_nothing_can_be_sent(served):
    assert get(served, method="POST")[0].status == 501


def test_port_in_use_is_named(run, served):
    result = run("serve", "--no-open", "--port", served)
    assert result.code == 2
    assert f"cannot listen on 127.0.0.1, port {served}" in result.err


def test_other_addresses_are_not_listened_on(served):
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection(("127.0.0.2", served), timeout=5)
