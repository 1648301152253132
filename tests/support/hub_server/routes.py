"""Which answer a request gets."""

from __future__ import annotations

from urllib.parse import parse_qs

from . import reading, writing
from .messages import Answer, RefusalError, Request, as_json
from .store import Store

KINDS = ("pr", "heads", "tags", "convert")


def answer(store: Store, request: Request) -> Answer:
    """Carries a request out; refusals are answers too."""
    try:
        match request.method, request.parts:
            case "GET", ("api", "whoami-v2"):
                return reading.whoami(store, request)
            case "GET", ("api", "agent-harnesses"):
                return as_json({"standardEnvVars": [], "harnesses": {}})
            case "POST", ("api", "repos", "create"):
                return writing.create(store, request)
            case "POST", ("api", "validate-yaml"):
                return writing.validate_yaml(request)
            case method, ("api", "models", org, name, *rest):
                return _api(store, request, method, f"{org}/{name}", rest)
            case method, ("api", "spaces", org, name, *rest):
                return _api(store, request, method, f"{writing.SPACES}{org}/{name}", rest)
            case (("GET" | "HEAD"), ("spaces", org, name, "resolve", *rest)):
                repo = store.contents(request, f"{writing.SPACES}{org}/{name}")
                return reading.resolve(store, request, repo, *_revision(rest))
            case _, ("storage", "spaces", org, name, oid, *_):
                return _storage(store, request, f"{writing.SPACES}{org}/{name}", oid)
            case "POST", ("spaces", org, name, "info", "lfs", *rest):
                key = f"{writing.SPACES}{org}/{name.removesuffix('.git')}"
                return _lfs(store, request, key, rest)
            case (("GET" | "HEAD"), (org, name, "resolve", *rest)):
                repo = store.contents(request, f"{org}/{name}")
                revision, path = _revision(rest)
                return reading.resolve(store, request, repo, revision, path)
            case _, ("storage", org, name, oid, *_):
                return _storage(store, request, f"{org}/{name}", oid)
            case "POST", (org, name, "info", "lfs", *rest):
                return _lfs(store, request, f"{org}/{name.removesuffix('.git')}", rest)
    except RefusalError as refusal:
        return refusal.answer
    return _unknown(request)


def _api(store: Store, request: Request, method: str, name: str, rest: list[str]) -> Answer:
    repo = store.readable(request, name)
    match method, rest:
        case "GET", []:
            return reading.info(repo, "main")
        case "GET", ["revision", *more]:
            return reading.info(repo, _revision(more)[0])
        case "GET", ["tree", *more]:
            return reading.tree(store, request, repo, *_revision(more))
        case "POST", ["paths-info", *more]:
            paths = parse_qs(request.text()).get("paths", [])
            return reading.paths_info(repo, _revision(more)[0], paths)
        case "GET", ["refs"]:
            return reading.refs(repo, "include_prs" in request.query)
        case "GET", ["commits", *more]:
            return reading.commits(repo, _revision(more)[0])
        case "GET", ["discussions"]:
            return reading.discussions(request, repo)
        case "GET", ["discussions", num]:
            return reading.discussion(repo, num)
        case "POST", ["discussions"]:
            return writing.discuss(store, request, repo)
        case "POST", ["discussions", num, "status"]:
            return writing.change_status(store, request, repo, num)
        case "POST", ["branch", branch]:
            return writing.branch(store, request, repo, branch)
        case "POST", ["preupload", *more]:
            return writing.preupload(store, request, repo, _revision(more)[0])
        case "POST", ["commit", *more]:
            return writing.commit(store, request, repo, _revision(more)[0])
    return _unknown(request)


def _storage(store: Store, request: Request, name: str, oid: str) -> Answer:
    """The other host: who has the link may use it, so a token here is a token leaked."""
    repo = store.repos[name]
    if request.token is not None:
        raise RefusalError(400, "a token was sent to the storage")
    if request.method == "PUT":
        return writing.put(repo, request, oid)
    return reading.content(request, repo.objects.path(oid), {"ETag": f'"{oid}"'})


def _lfs(store: Store, request: Request, name: str, rest: list[str]) -> Answer:
    repo = store.readable(request, name)
    match rest:
        case ["objects", "batch"]:
            return writing.batch(store, request, repo)
        case ["verify"]:
            return writing.verify(store, request, repo)
    return _unknown(request)


def _revision(parts: list[str]) -> tuple[str, str]:
    """A revision and the path after it; ``refs/pr/1`` may be one segment or three."""
    length = 3 if parts[:1] == ["refs"] and parts[1:2] and parts[1] in KINDS else 1
    return "/".join(parts[:length]), "/".join(parts[length:])


def _unknown(request: Request) -> Answer:
    return as_json({"error": f"this server does not know {request}"}, 404)
