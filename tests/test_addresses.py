"""Training data at fsspec addresses gives the same results as in a folder."""

import asyncio
import sys
import threading

import pytest

from tests.conftest import draw_pairs, run_process

fsspec = pytest.importorskip("fsspec", reason="needs the extra cluster")
pytest.importorskip("upath", reason="needs the extra cluster")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a damaged image, one without a partner, a subfolder and a hidden file."""
    folder = draw_pairs(tmp_path_factory.mktemp("data"), range(4), ("happy", "sad"))
    (folder / "sad" / "3.png").unlink()
    image = folder / "happy" / "2.png"
    image.write_bytes(image.read_bytes()[:-20])
    for name in ("neutral", "happy"):
        (folder / name / "more").mkdir()
        (folder / name / "1.png").rename(folder / name / "more" / "1.png")
    (folder / "happy" / ".hidden.png").write_bytes(b"no image")
    (folder / "happy" / "readme.txt").write_text("nor this")
    return folder


@pytest.fixture
def address(data):
    """The same files in memory."""
    memory = fsspec.filesystem("memory")
    for path in data.rglob("*.*"):
        memory.pipe(f"/faces/{path.relative_to(data)}", path.read_bytes())
    yield "memory://faces"
    memory.rm("/faces", recursive=True)


@pytest.mark.parametrize("more", [(), ("--shard", 1), ("--checkpoint", "kept")])
def test_model_is_the_same_file(run, data, address, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    remote, local, again = (
        run("train", source, "-o", tmp_path / name, "--recipe", "paper", "--force", *options)
        for source, name, options in ((address, "a", more), (data, "b", ()), (address, "a", more))
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert remote.code == local.code == again.code == 1
    expected = [line.replace(str(data), address) for line in local.lines[:-1]]
    assert remote.lines[:-1] == again.lines[:-1] == expected


def test_evaluation_is_the_same(run, data, address, model):
    remote, local = (run("evaluate", model, source, "--json") for source in (address, data))
    assert remote.out.replace(address, str(data)) == local.out


def test_statistics_and_manifests_are_read(run, data, address, tmp_path):
    memory = fsspec.filesystem("memory")
    run("statistics", data, "-o", tmp_path / "s", "--recipe", "paper")
    memory.pipe("/faces/s.npz", (tmp_path / "s").read_bytes())
    memory.pipe("/faces/list/pairs.csv", b"source,target\na.png,b/c.png\n")
    for name, path in {"a.png": "neutral/0.png", "b/c.png": "happy/0.png"}.items():
        memory.pipe(f"/faces/list/{name}", (data / path).read_bytes())
    models = [tmp_path / name for name in "abcd"]
    run("train", f"{address}/s.npz", "-o", models[0])
    run("train", tmp_path / "s", "-o", models[1])
    assert models[0].read_bytes() == models[1].read_bytes()
    result = run("train", f"{address}/list", "-o", models[2])
    assert (result.code, models[2].exists()) == (0, True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nix://x", "nix://x: cannot be reached: "),
        ("memory://none", "memory://none: does not exist; expected a folder of training images"),
        (
            "memory://faces/sad",
            "memory://faces/sad: contains no folders; expected a folder 'neutral'",
        ),
    ],
)
def test_error_names_missing_data(run, address, tmp_path, source, message):
    result = run("train", source, "-o", tmp_path / "m")
    assert result.code == 1
    assert result.lines[-1].startswith(f"mlr: error: {message}")


def test_error_names_the_missing_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    result = run("train", "s3://x", "-o", tmp_path / "m")
    assert result.lines == [
        "mlr: error: s3://x: needs pip install 'masked-linear-regression[cluster]'"
    ]


@pytest.fixture
def s3(data, monkeypatch):
    """The files in a bucket of a local server."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    served = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    bucket = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket.mkdir("bucket")
    for path in data.rglob("*.*"):
        bucket.pipe(f"bucket/faces/{path.relative_to(data)}", path.read_bytes())
    yield "s3://bucket/faces"
    served.stop()


@pytest.fixture
def sftp(data):
    """The folder on a local server."""
    pytest.importorskip("sshfs", reason="needs sshfs")
    asyncssh = pytest.importorskip("asyncssh", reason="needs asyncssh")
    loop, ports, done = asyncio.new_event_loop(), [], asyncio.Event()
    listening = threading.Event()

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username):
            return False  # no password

    async def serve():
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(data)),
        )
        ports.append(server.sockets[0].getsockname()[1])
        listening.set()
        await done.wait()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert listening.wait(30)
    yield f"sftp://user@127.0.0.1:{ports[0]}/"
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_servers_give_the_same_model(request, data, tmp_path, kind):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    source = request.getfixturevalue(kind)
    train, model = ["train", "--recipe", "paper", "-o"], tmp_path / "local"
    local = run_process(*train, model, data)
    for number, more in enumerate([(), ("--cluster", "local:2", "--shard", 1)]):
        found = tmp_path / f"{number}"
        result = run_process(*train, found, source, *more)
        assert found.read_bytes() == model.read_bytes(), result.err
        assert result.code == local.code == 1
        assert len(result.lines) == len(local.lines)
