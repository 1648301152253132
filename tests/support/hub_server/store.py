"""All repositories and users, and their permissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .messages import RefusalError, Request
from .policy import READER, STRANGER, WRITER, User
from .repo import Objects, Repo


@dataclass
class Store:
    """``endpoint`` is the URL of the Hub, ``storage`` that of the host of LFS contents."""

    folder: Path
    endpoint: str
    storage: str
    users: tuple[User, ...] = (WRITER, READER, STRANGER)
    repos: dict[str, Repo] = field(default_factory=dict)

    def create(
        self,
        name: str,
        files: Mapping[str, bytes] | None = None,
        *,
        private: bool = False,
        gated: bool = False,
        prefix: str = "",
        starter: Mapping[str, bytes] | None = None,
    ) -> Repo:
        """A new repository, with these files besides ``.gitattributes`` and those of ``starter``,
        which are in its first commit.
        """
        objects = Objects(self.folder / prefix / name)
        repo = Repo(name, objects, private, gated, prefix, starter or {})
        if files:
            repo.write(files)
        self.repos[repo.key] = repo
        return repo

    def url(self, name: str) -> str:
        return f"{self.endpoint}/{name}"

    def user(self, request: Request) -> User | None:
        """The user of the request's token; None without a token."""
        if request.token is None:
            return None
        for user in self.users:
            if user.token == request.token:
                return user
        raise RefusalError(401, "invalid user token")

    def signed_in(self, request: Request) -> User:
        user = self.user(request)
        if user is None:
            raise RefusalError(401, "invalid username or password")
        return user

    def writer(self, request: Request, namespace: str) -> User:
        """The user, if allowed to write to the namespace."""
        user = self.signed_in(request)
        if not user.writes or namespace not in user.namespaces:
            raise RefusalError(403, f"{user.name} has no write access to {namespace}")
        return user

    def readable(self, request: Request, name: str) -> Repo:
        """A repository, if the user may know that it exists."""
        user = self.user(request)
        repo = self.repos.get(name)
        if repo is None or (repo.private and not _belongs(user, repo)):
            raise RefusalError(404 if user else 401, f"repository {name} not found", "RepoNotFound")
        return repo

    def contents(self, request: Request, name: str) -> Repo:
        """A repository, if the user may read its files."""
        repo = self.readable(request, name)
        user = self.user(request)
        if repo.gated and not _belongs(user, repo):
            raise RefusalError(403 if user else 401, f"access to {name} is restricted", "GatedRepo")
        return repo

    def proposer(self, request: Request, name: str) -> User:
        """The user, if allowed to open a pull request, as all users with write access are."""
        self.readable(request, name)
        user = self.signed_in(request)
        if not user.writes:
            raise RefusalError(403, f"the token of {user.name} has no write access")
        return user

    def committer(self, request: Request, name: str, revision: str) -> User:
        """The user, if allowed to write to the revision; authors may change their pull requests."""
        repo = self.readable(request, name)
        num = revision.removeprefix("refs/pr/")
        if num != revision:
            discussion = repo.discussion(num)
            if discussion.status == "closed":
                raise RefusalError(400, f"pull request {num} is closed")
            user = self.proposer(request, name)
            if user.name == discussion.author:
                return user
        return self.writer(request, repo.name.partition("/")[0])


def _belongs(user: User | None, repo: Repo) -> bool:
    return user is not None and repo.name.partition("/")[0] in user.namespaces
