"""Answers to requests that only read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .messages import Answer, RefusalError, Request, as_json
from .policy import SIGNATURE
from .repo import Blob, Discussion, Repo
from .store import Store

PAGE = 50  # entries of a listing in one answer


def whoami(store: Store, request: Request) -> Answer:
    user = store.signed_in(request)
    role = "write" if user.writes else "read"
    orgs = [{"name": org, "type": "org"} for org in user.orgs]
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
    return as_json({"type": "user", "name": user.name, "orgs": orgs, "auth": token})


def info(repo: Repo, revision: str) -> Answer:
    head = repo.head(revision)
    content = {
        "id": repo.name,
        "sha": head.id,
        "lastModified": head.date,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "tags": [],
        "siblings": [_sibling(path, blob) for path, blob in head.files.items()],
    }
    return as_json(content)


def tree(store: Store, request: Request, repo: Repo, revision: str, folder: str) -> Answer:
    """The entries of a folder, or all below it; a long list continues on the linked page."""
    files = repo.head(revision).files
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in files.items():
        if path.startswith(prefix):
            first, *rest = path[len(prefix) :].split("/")
            for depth in range(len(rest) + 1):
                entry = prefix + "/".join([first, *rest[:depth]])
                entries[entry] = _entry(entry, blob if depth == len(rest) else None)
                if request.query.get("recursive", "").lower() != "true":
                    break
    if not entries:
        raise RefusalError(404, f"{folder} does not exist", "EntryNotFound")
    cursor = int(request.query.get("cursor", "0"))
    page = list(entries.values())[cursor : cursor + PAGE]
    link = {}
    if cursor + PAGE < len(entries):
        query = "&".join(f"{k}={v}" for k, v in {**request.query, "cursor": cursor + PAGE}.items())
        link = {"Link": f'<{store.endpoint}{request.raw}?{query}>; rel="next"'}
    return as_json(page, 200, **link)


def paths_info(repo: Repo, revision: str, paths: list[str]) -> Answer:
    files = repo.head(revision).files
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    return as_json(
        [_entry(path, files.get(path)) for path in paths if path in files or path in folders]
    )


def refs(repo: Repo, with_pull_requests: bool) -> Answer:
    def under(prefix: str) -> list[dict[str, str]]:
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit}
            for ref, commit in repo.refs.items()
            if ref.startswith(prefix)
        ]

    content = {"branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": []}
    if with_pull_requests:
        content["pullRequests"] = under("refs/pr/")
    return as_json(content)


def commits(repo: Repo, revision: str) -> Answer:
    return as_json(
        [
            {
                "id": commit.id,
                "title": commit.title,
                "message": commit.message,
                "date": commit.date,
                "authors": [{"user": commit.author}],
            }
            for commit in repo.history(revision)
        ]
    )


def discussions(request: Request, repo: Repo) -> Answer:
    """Those asked for, the last first."""
    query = request.query
    kind = query.get("type", "all")
    found = [
        each
        for each in reversed(repo.discussions)
        if kind in ("all", "pull_request" if each.is_pull_request else "discussion")
        and query.get("status", "all") in ("all", "closed" if each.status == "closed" else "open")
        and query.get("author", each.author) == each.author
    ]
    start = int(query.get("p", "0")) * PAGE
    page = [_discussion(repo, each) for each in found[start : start + PAGE]]
    return as_json({"count": len(found), "start": start, "discussions": page})


def discussion(repo: Repo, num: str) -> Answer:
    found = repo.discussion(num)
    comment = {
        "id": f"{found.num}-0",
        "type": "comment",
        "createdAt": found.created,
        "author": {"name": found.author},
        "data": {"edited": False, "hidden": False, "latest": {"raw": found.description}},
    }
    details = {
        "events": [comment],
        "changes": {"base": "refs/heads/main"},
        "filesWithConflicts": [],
        "diff": "",
    }
    return as_json({**_discussion(repo, found), **details})


def resolve(store: Store, request: Request, repo: Repo, revision: str, path: str) -> Answer:
    """A file, or where to find it: the storage is another host, and asks for no token."""
    head = repo.head(revision)
    at = {"X-Repo-Commit": head.id}
    blob = head.files.get(path)
    if blob is None:
        raise RefusalError(404, f"{path} is not in {repo.name}", "EntryNotFound", **at)
    if not blob.lfs:
        return content(request, blob.path, {**at, "ETag": f'"{blob.oid}"'})
    linked = {
        "X-Linked-Etag": f'"{blob.sha256}"',
        "X-Linked-Size": str(blob.size),
        "Location": f"{store.storage}/storage/{repo.key}/{blob.sha256}/{path}?sig={SIGNATURE}",
    }
    return Answer(302, headers={**at, **linked})


def content(request: Request, path: Path, headers: dict[str, str]) -> Answer:
    """A file, or the one range of it that is asked for."""
    size = path.stat().st_size
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if asked is None or asked[0] == "bytes=-":
        return Answer(200, path, headers, 0, size)
    if asked[1]:
        start, stop = int(asked[1]), min(int(asked[2] or size) + 1, size)
    else:
        start, stop = max(size - int(asked[2]), 0), size
    if start >= stop:
        return Answer(416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(206, path, headers, start, stop)


def _lfs(blob: Blob, key: str) -> dict[str, Any]:
    pointer = len(f"version https://git-lfs.github.com/spec/v1\noid sha256:\nsize {blob.size}\n")
    return {key: blob.sha256, "size": blob.size, "pointerSize": pointer + len(blob.sha256)}


def _sibling(path: str, blob: Blob) -> dict[str, Any]:
    named = {"rfilename": path, "size": blob.size, "blobId": blob.oid}
    return {**named, "lfs": _lfs(blob, "sha256")} if blob.lfs else named


def _entry(path: str, blob: Blob | None) -> dict[str, Any]:
    if blob is None:
        return {"type": "directory", "path": path, "oid": "0" * 40}
    named = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    return {**named, "lfs": _lfs(blob, "oid")} if blob.lfs else named


def _discussion(repo: Repo, each: Discussion) -> dict[str, Any]:
    return {
        "num": each.num,
        "title": each.title,
        "status": each.status,
        "isPullRequest": each.is_pull_request,
        "createdAt": each.created,
        "author": {"name": each.author},
        "repo": {"name": repo.name, "type": "space" if repo.prefix else "model"},
    }
