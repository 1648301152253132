"""Answers to requests that write."""

from __future__ import annotations

import base64
import json
from typing import Any

from .messages import Answer, RefusalError, Request, as_json
from .policy import SIGNATURE, card_problems
from .repo import Blob, Repo, now
from .store import Store

SPACES = "spaces/"
# What a new static Space holds, whoever creates it.
STARTER = {
    "README.md": b"---\ntitle: Page\nemoji: \xf0\x9f\x90\xa0\nsdk: static\n---\n\nA new Space.\n",
    "index.html": b"<!doctype html>\n<h1>Welcome to your static Space!</h1>\n",
    "style.css": b"h1 { font-size: 16px; }\n",
}
STARTERS = {
    "static": STARTER,
    "docker": {"README.md": b"---\ntitle: App\nsdk: docker\n---\n\nA new Space.\n"},
}


def create(store: Store, request: Request) -> Answer:
    asked = request.json()
    namespace = asked.get("organization") or store.signed_in(request).name
    store.writer(request, namespace)
    name = f"{namespace}/{asked['name']}"
    space = asked.get("type") == "space"
    sdk = asked.get("sdk")
    if space and sdk not in STARTERS:
        raise RefusalError(400, f"this server has no Spaces of the kind {sdk}")
    prefix = SPACES if space else ""
    if prefix + name in store.repos:
        said = "You already created this model repo"
        return as_json({"error": said, "url": store.url(name)}, 409)
    private = asked.get("visibility") == "private" or asked.get("private", False)
    store.create(name, private=private, prefix=prefix, starter=STARTERS[sdk] if space else None)
    return as_json({"url": store.url(prefix + name), "name": name})


def validate_yaml(request: Request) -> Answer:
    errors, warnings = card_problems(request.json()["content"])
    content = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return as_json(content, 400 if errors else 200)


def branch(store: Store, request: Request, repo: Repo, name: str) -> Answer:
    store.writer(request, repo.name.partition("/")[0])
    asked = json.loads(request.text() or "{}")
    with repo.lock:
        if f"refs/heads/{name}" in repo.refs:
            raise RefusalError(409, f"branch {name} exists")
        repo.refs[f"refs/heads/{name}"] = repo.head(asked.get("startingPoint") or "main").id
    return as_json({})


def _allowed(store: Store, request: Request, repo: Repo, revision: str) -> str:
    """The name of the user, if allowed to commit there or to open a pull request."""
    if "create_pr" in request.query:
        return store.proposer(request, repo.key).name
    return store.committer(request, repo.key, revision).name


def preupload(store: Store, request: Request, repo: Repo, revision: str) -> Answer:
    _allowed(store, request, repo, revision)
    files = repo.head(revision).files

    def plan(asked: dict[str, Any]) -> dict[str, Any]:
        path, size = asked["path"], asked["size"]
        there = files.get(path)
        lfs = repo.sends_to_lfs(revision, path, size, base64.b64decode(asked["sample"]))
        known = {"oid": there.sha256 if there.lfs else there.oid} if there else {}
        mode = "lfs" if lfs else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, **known}

    return as_json({"files": [plan(asked) for asked in request.json()["files"]]})


def batch(store: Store, request: Request, repo: Repo) -> Answer:
    """Where to upload LFS objects; one that the Hub has already needs no action."""
    asked = request.json()
    if "ref" in asked:
        store.committer(request, repo.key, asked["ref"]["name"])
    else:
        store.proposer(request, repo.key)

    def plan(oid: str, size: int) -> dict[str, Any]:
        if repo.objects.path(oid).exists():
            return {"oid": oid, "size": size}
        upload = {"href": f"{store.storage}/storage/{repo.key}/{oid}?X-Amz-Signature={SIGNATURE}"}
        verify = {"href": f"{store.url(repo.key)}.git/info/lfs/verify"}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    objects = [plan(each["oid"], each["size"]) for each in asked["objects"]]
    return as_json({"transfer": "basic", "objects": objects})


def put(repo: Repo, request: Request, oid: str) -> Answer:
    repo.objects.receive(request.body, oid)
    return Answer(200)


def verify(store: Store, request: Request, repo: Repo) -> Answer:
    store.proposer(request, repo.key)
    asked = request.json()
    path = repo.objects.path(asked["oid"])
    if not path.is_file() or path.stat().st_size != asked["size"]:
        raise RefusalError(404, f"no LFS object {asked['oid']} of {asked['size']} bytes")
    return as_json({})


def commit(store: Store, request: Request, repo: Repo, revision: str) -> Answer:
    """A commit on a branch or a pull request, or with ``create_pr`` on a new pull request."""
    author = _allowed(store, request, repo, revision)
    header, *operations = [json.loads(line) for line in request.text().splitlines()]
    if header["key"] != "header":
        raise RefusalError(400, "the first line must be the header")
    changes = dict(_change(repo, each["key"], each["value"]) for each in operations)
    value = header["value"]
    title, message = value["summary"], value.get("description", "")
    parent = value.get("parentCommit")
    answer = {}
    with repo.lock:
        if "create_pr" in request.query:
            base = parent or revision
            num = repo.open_discussion(title, message, author, base=base).num
            revision, parent = f"refs/pr/{num}", None
            answer["pullRequestUrl"] = f"{store.url(repo.key)}/discussions/{num}"
        made = repo.commit(revision, changes, title, message, author, parent)
    url = f"{store.url(repo.key)}/commit/{made.id}"
    return as_json({"success": True, "commitUrl": url, "commitOid": made.id, **answer})


def _change(repo: Repo, key: str, value: dict[str, Any]) -> tuple[str, Blob]:
    match key:
        case "file":
            sha256 = repo.objects.receive([base64.b64decode(value["content"])])
            return value["path"], repo.objects.blob(sha256, lfs=False)
        case "lfsFile":
            return value["path"], repo.objects.blob(value["oid"], lfs=True)
    raise RefusalError(400, f"this server knows no commits with {key}")


def discuss(store: Store, request: Request, repo: Repo) -> Answer:
    author = store.proposer(request, repo.key).name
    asked = request.json()
    proposed = asked.get("pullRequest", False)
    status, base = ("draft", "main") if proposed else ("open", None)
    text = asked.get("description", "")
    return as_json({"num": repo.open_discussion(asked["title"], text, author, status, base).num})


def change_status(store: Store, request: Request, repo: Repo, num: str) -> Answer:
    user = store.proposer(request, repo.key)
    found = repo.discussion(num)
    if user.name != found.author:
        store.writer(request, repo.name.partition("/")[0])
    found.status = request.json()["status"]
    event = {
        "id": f"{num}-{found.status}",
        "type": "status-change",
        "createdAt": now(),
        "author": {"name": user.name},
        "data": {"status": found.status},
    }
    return as_json({"newStatus": event})
