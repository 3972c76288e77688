"""Getting the real weights: which files, is there room, are they whole (chapter 22).

A model's page on the Hub holds the weights two or three times over, in several formats; one of them is enough. The Hub
tells the size and the SHA-256 of each large file before a byte is sent, so the disk is looked at first and every file
is checked afterwards. A download that breaks off goes on where it stopped; `huggingface_hub` does that.

Does: choose the files of one format, refuse what does not fit on the disk, download with resumption, check SHA-256
    and Meta's `checklist.chk` (MD5), say what to do about a licence, a token, a network that is missing.
Does not: accept licences for you, store tokens, download from anywhere else.
Source: the file lists of the public repositories; `huggingface_hub` for the transfer.
"""

import hashlib
import importlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

# repository: what it holds. The first three ask for the licence; the others are open and have the same architecture.
MODELS = {
    "meta-llama/Llama-2-7b": "Llama 2 7B, Meta's format, 13.5 GB",
    "meta-llama/Llama-2-7b-hf": "Llama 2 7B, Hugging Face's format, 13.5 GB",
    "meta-llama/Llama-2-7b-chat-hf": "Llama 2-Chat 7B, Hugging Face's format, 13.5 GB",
    "codellama/CodeLlama-7b-hf": "Code Llama 7B, Hugging Face's format, 13.5 GB",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "TinyLlama 1.1B, Hugging Face's format, 2.2 GB, no licence form",
    "Xenova/llama2.c-stories15M": "stories15M, Hugging Face's format, 61 MB, no licence form",
}
SMALL = ("tokenizer.model", "generation_config.json", "checklist.chk", "tokenizer_checklist.chk")
SPARE = 2**28  # bytes that stay free on the disk


class DownloadError(RuntimeError):
    """A download that cannot be done or is not whole; the message says what to do."""


def files_needed(names: Iterable[str], layout: str | None = None) -> list[str]:
    """The files of one format, and no second copy of the weights.

    Args:
        names: all files of a repository.
        layout: "hf" or "meta"; None takes Hugging Face's where both are there.

    Returns:
        Names, sorted. safetensors only: pickled `.bin` weights beside them are left out.

    Raises:
        DownloadError: if the repository does not have that format.
    """
    names = sorted(set(names))
    weights = {
        "hf": [name for name in names if re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors", name)],
        "meta": [name for name in names if re.fullmatch(r"consolidated\.\d\d\.pth", name)],
    }
    described = {"hf": "config.json", "meta": "params.json"}
    there = [kind for kind in weights if weights[kind] and described[kind] in names]
    if layout is not None and layout not in weights:
        raise ValueError(f"layout must be 'hf' or 'meta', got {layout!r}")
    kind = layout or (there[0] if there else None)
    if kind not in there:
        raise DownloadError(
            f"no {kind or ''} weights among {len(names)} files ({', '.join(names[:6])} ...); "
            f"expected config.json with model*.safetensors or params.json with consolidated.*.pth{_found(there)}"
        )
    small = [name for name in (*SMALL, described[kind], "model.safetensors.index.json") if name in names]
    other = ("generation_config.json", "model.safetensors.index.json") if kind == "meta" else SMALL[2:]
    small = [name for name in small if name not in other]
    return sorted([*weights[kind], *small])


def download(
    repository: str,
    folder: str | Path,
    layout: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Fetch one format of a model, or go on where an earlier call stopped, and check it.

    Args:
        repository: such as "TinyLlama/TinyLlama-1.1B-Chat-v1.0"; `MODELS` has some.
        folder: where the files go.
        layout: see `files_needed`.
        token: of your account on the Hub; None takes the one of `hf auth login` or of HF_TOKEN.
        endpoint: address of the Hub; None takes HF_ENDPOINT or the public one.
        log: told the plan.

    Returns:
        The folder, ready for `minillama.family.loading.load`.

    Raises:
        DownloadError: with what to do.
    """
    folder, endpoint = Path(folder), endpoint or os.environ.get("HF_ENDPOINT") or None
    page = f"https://huggingface.co/{repository}"
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, files_metadata=True, token=token, timeout=30)
        known = {entry.rfilename: entry for entry in info.siblings or []}
        wanted = files_needed(known, layout)
        sizes = {name: known[name].size or 0 for name in wanted}
        check_disk(folder, sum(size for name, size in sizes.items() if _size(folder / name) != size))
        log(f"{repository}: {len(wanted)} files, {sum(sizes.values()) / 1e9:.2f} GB, to {folder}")
        for name in wanted:
            url = hf_hub_url(repository, name, revision=info.sha, endpoint=endpoint)
            _fetch(url, folder / name, sizes[name], build_hf_headers(token=token))
            lfs = known[name].lfs
            if lfs is not None:
                check_sha256(folder / name, lfs.sha256)
    except GatedRepoError as error:
        raise DownloadError(_access(page, token)) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{repository}: no such repository, or a private one; check the name at {page}, and `hf auth login`"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        if status in (401, 403):
            raise DownloadError(_access(page, token)) from error
        raise DownloadError(f"{repository}: the Hub answered {status}; run the same again later, it goes on") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, *_broken(), OSError) as error:
        if isinstance(error, DownloadError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"{repository}: the transfer broke off ({reason[:120]}); check the network (and that HF_HUB_OFFLINE is not "
            "set), then run the same again: it goes on where it stopped"
        ) from error
    check_checklist(folder)
    return folder


def check_disk(folder: Path, needed: int) -> None:
    """Raise `DownloadError` if fewer than `needed` bytes (and a little to spare) are free where `folder` is."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + SPARE:
        raise DownloadError(
            f"{folder}: {needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free on that disk; make room or "
            "choose a folder on another disk"
        )


def check_sha256(file: Path, expected: str) -> None:
    """Compare a file with the Hub's SHA-256; if it differs, rename it, so that it is not used, and raise."""
    found = _digest(file, "sha256")
    if found != expected:
        file.replace(file.with_name(file.name + ".damaged"))
        raise DownloadError(
            f"{file}: SHA-256 {found[:12]}..., expected {expected[:12]}...; it was renamed to .damaged, run the same "
            "again to fetch it anew"
        )


def check_checklist(folder: str | Path) -> list[str]:
    """Compare a folder with the MD5 sums in Meta's `checklist.chk` (and `tokenizer_checklist.chk`), if it has any.

    Returns:
        The names that were compared.

    Raises:
        DownloadError: for a file that is missing or has another sum, or a list that makes no sense.
    """
    checked = []
    for list_ in (Path(folder) / "checklist.chk", Path(folder) / "tokenizer_checklist.chk"):
        for line in list_.read_text(encoding="utf-8").splitlines() if list_.exists() else []:
            match = re.fullmatch(r"([0-9a-f]{32})\s+\*?([\w.-]+)", line.strip())
            if match is None:
                raise DownloadError(f"{list_}: cannot read the line {line[:60]!r}; fetch the list again")
            expected, name = match.groups()
            file = Path(folder) / name
            if not file.exists():
                raise DownloadError(f"{file}: missing, but {list_.name} names it; fetch it")
            found = _digest(file, "md5")
            if found != expected:
                raise DownloadError(f"{file}: MD5 {found}, expected {expected}; it is damaged, fetch it again")
            checked.append(name)
    return checked


def _fetch(url: str, file: Path, size: int, headers: dict[str, str]) -> None:
    """Fetch a file beside its place and then rename it; what an earlier call has left beside it is kept."""
    if _size(file) == size:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with open(part, "r+b" if part.exists() else "wb") as opened:
        start = opened.seek(0, os.SEEK_END)
        if start > size:
            start = opened.truncate(0)
            opened.seek(0)
        if start < size:
            http_get(url, opened, resume_size=start, headers=headers, expected_size=size)
    part.replace(file)


def _digest(file: Path, kind: str) -> str:
    """Hexadecimal digest, read in pieces; 13 GB take a minute or two, so with a bar."""
    digest, size = hashlib.new(kind), file.stat().st_size
    with (
        open(file, "rb") as opened,
        tqdm(total=size, unit="B", unit_scale=True, desc=f"{kind} {file.name}", disable=size < 10**9) as bar,
    ):
        while part := opened.read(2**22):
            digest.update(part)
            bar.update(len(part))
    return digest.hexdigest()


def _access(page: str, token: str | None) -> str:
    have = token or get_token()
    if have:
        return (
            f"{page}: your token has no access; fill in the form on that page with your account, wait for the "
            "mail, and see that the token may read gated repositories"
        )
    return (
        f"{page}: a licence has to be accepted, and there is no token; make an account, fill in the form on that page, "
        "make a token under Settings, then `hf auth login` or set HF_TOKEN"
    )


def _broken() -> Iterator[type[Exception]]:
    """The error of the library below `huggingface_hub`, which changed from version to version."""
    for name in ("httpx2", "httpx", "requests"):
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        yield getattr(library, "HTTPError", None) or library.exceptions.RequestException


def _found(there: list[str]) -> str:
    return f"; it has layout {' and '.join(map(repr, there))}" if there else ""


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1
