"""Downloads against a small Hub of our own on this machine: whole, broken off, damaged, forbidden, absent."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants, file_download

from minillama.family import download as module
from minillama.family.download import DownloadError, check_checklist, check_disk, check_sha256, download, files_needed

REPOSITORY, COMMIT = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
BIG = bytes(range(256)) * 16_384  # 4 MiB
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": BIG,
    "pytorch_model.bin": b"pickled weights that nobody wants",
    "tokenizer.model": b"pieces",
    "README.md": b"words",
}


class Hub(BaseHTTPRequestHandler):
    """The three answers of the Hub that a download needs: the list of files, a HEAD with sizes and sums, the bytes."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server, path = self.server, urlsplit(self.path).path
        server.seen.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        if server.refuse:
            status, code = server.refuse
            self.send(status, json.dumps({"error": "no"}).encode(), X_Error_Code=code)
        elif path.startswith("/api/models/"):
            siblings = [
                {"rfilename": name, "size": len(data)}
                | ({"lfs": {"oid": sum_, "sha256": sum_, "size": len(data), "pointerSize": 130}} if big(name) else {})
                for name, data in server.files.items()
                for sum_ in [hashlib.sha256(FILES[name]).hexdigest()]
            ]
            body = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings}
            self.send(200, json.dumps(body).encode(), Content_Type="application/json")
        else:
            self.send_file(path.rsplit("/", 1)[-1])

    def send_file(self, name: str) -> None:
        server, data = self.server, self.server.files[name]
        etag = hashlib.sha256(FILES[name]).hexdigest() if big(name) else hashlib.md5(data).hexdigest()
        common = {"ETag": f'"{etag}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        if self.command == "HEAD":
            self.send(200, b"", Content_Length=str(len(data)), **common)
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        rest = data[start:]
        if start:
            common["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if big(name) and server.cut:
            server.cut -= 1
            self.send(206 if start else 200, rest[: len(rest) // 2], Content_Length=str(len(rest)), **common)
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.send(206 if start else 200, rest, **common)


def big(name: str) -> bool:
    return name.endswith(("safetensors", ".bin"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.seen, server.cut, server.refuse = dict(FILES), [], 0, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(module, "get_token", lambda: None)
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub, folder: Path, **options) -> Path:
    return download(REPOSITORY, folder, endpoint=hub.address, log=lambda _: None, **options)


def test_one_copy_of_the_weights_comes_whole(hub, tmp_path):
    folder = fetch(hub, tmp_path / "model")
    wanted = {"config.json", "model.safetensors", "tokenizer.model"}
    assert {file.name for file in folder.iterdir() if file.is_file()} == wanted
    assert all((folder / name).read_bytes() == FILES[name] for name in wanted)


def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    fetch(hub, tmp_path)
    hub.seen.clear()
    fetch(hub, tmp_path)
    assert not [path for command, path, *_ in hub.seen if command == "GET" and path.endswith("safetensors")]


def starts(hub) -> list[int]:
    """Where the transfers of the weights began."""
    asked = [range_ for command, path, range_, _ in hub.seen if command == "GET" and path.endswith("safetensors")]
    return [int(range_.removeprefix("bytes=").split("-")[0]) if range_ else 0 for range_ in asked]


@pytest.mark.parametrize("cuts", [1, 100])
def test_a_broken_transfer_goes_on_where_it_stopped(hub, tmp_path, monkeypatch, cuts):
    """One cut is mended by the library itself; after many it gives up, and a second call goes on."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)  # the library keeps whole chunks of 10 MB
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    hub.cut = cuts
    if cuts > 1:
        with pytest.raises(DownloadError, match="the same again: it goes on where it stopped"):
            fetch(hub, tmp_path)
        hub.cut = 0
    fetch(hub, tmp_path)
    assert len(starts(hub)) >= 2 and starts(hub) == sorted(starts(hub)) and starts(hub)[1] == len(BIG) // 2
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


def test_damaged_bytes_are_found_by_their_sum_and_put_aside(hub, tmp_path):
    hub.files["model.safetensors"] = BIG[:-1] + b"!"
    with pytest.raises(DownloadError, match="SHA-256 .* renamed to .damaged"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    hub.files["model.safetensors"] = BIG
    fetch(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


@pytest.mark.parametrize(("token", "advice"), [(None, "there is no token"), ("hf_x", "your token has no access")])
def test_a_licence_that_was_not_accepted(hub, tmp_path, token, advice):
    hub.refuse = (403 if token else 401, "GatedRepo")
    with pytest.raises(DownloadError, match=rf"huggingface.co/{REPOSITORY}: .*{advice}|{advice}.*form"):
        fetch(hub, tmp_path, token=token)


def test_a_name_that_is_not_there(hub, tmp_path):
    hub.refuse = (404, "RepoNotFound")
    with pytest.raises(DownloadError, match="no such repository, or a private one"):
        fetch(hub, tmp_path)


def test_a_hub_in_trouble(hub, tmp_path):
    hub.refuse = (500, "Trouble")
    with pytest.raises(DownloadError, match="run the same again"):
        fetch(hub, tmp_path)


def test_no_network(tmp_path):
    with pytest.raises(DownloadError, match="check the network"):
        download(REPOSITORY, tmp_path, endpoint="http://127.0.0.1:9", log=lambda _: None)


def test_the_token_is_sent(hub, tmp_path):
    fetch(hub, tmp_path, token="hf_secret")
    assert {authorization for *_, authorization in hub.seen} == {"Bearer hf_secret"}


def test_a_full_disk_is_noticed_before_a_byte_is_sent(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    with pytest.raises(DownloadError, match="make room or choose a folder on another disk"):
        fetch(hub, tmp_path)
    assert not [path for _, path, *_ in hub.seen if "resolve" in path]
    with pytest.raises(DownloadError, match="13.5 GB are to come"):
        check_disk(tmp_path / "not" / "there", 13_476_939_516)


META = ["consolidated.00.pth", "params.json", "checklist.chk", "tokenizer.model", "README.md"]
HF = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "pytorch_model.bin",
      "model.safetensors.index.json", "tokenizer.model", "tokenizer.json", "generation_config.json"]  # fmt: skip


def test_files_of_one_format():
    assert files_needed(META) == ["checklist.chk", "consolidated.00.pth", "params.json", "tokenizer.model"]
    assert files_needed(HF) == sorted(set(HF) - {"pytorch_model.bin", "tokenizer.json"})
    assert files_needed(META + HF) == files_needed(HF)
    assert files_needed(META + HF, "meta") == files_needed(META)


def test_a_repository_without_the_format():
    with pytest.raises(DownloadError, match=r"no meta weights.*it has layout 'hf'"):
        files_needed(HF, "meta")
    with pytest.raises(DownloadError, match="expected config.json with model"):
        files_needed(["model.gguf"])
    with pytest.raises(ValueError, match="layout must be"):
        files_needed(HF, "gguf")


def test_checklists(tmp_path):
    (tmp_path / "params.json").write_bytes(b"{}")
    line = hashlib.md5(b"{}").hexdigest() + "  params.json\n"
    assert check_checklist(tmp_path) == []
    (tmp_path / "checklist.chk").write_text(line)
    assert check_checklist(tmp_path) == ["params.json"]
    (tmp_path / "params.json").write_bytes(b"{ }")
    with pytest.raises(DownloadError, match=r"params.json: MD5 .* expected .* fetch it again"):
        check_checklist(tmp_path)
    (tmp_path / "params.json").unlink()
    with pytest.raises(DownloadError, match="missing, but checklist.chk names it"):
        check_checklist(tmp_path)
    (tmp_path / "checklist.chk").write_text(line.replace("params.json", "../../etc/passwd"))
    with pytest.raises(DownloadError, match="cannot read the line"):
        check_checklist(tmp_path)


def test_a_sum_that_is_right(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    check_sha256(tmp_path / "a", hashlib.sha256(b"abc").hexdigest())
    assert (tmp_path / "a").exists()
