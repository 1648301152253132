"""The test Hub answers the real client like the real Hub."""

from __future__ import annotations

import hashlib
import http.client
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.hub_server import READER, STRANGER, WRITER, Hub, User
from ..support.hub_server.client import DOWNLOAD, MIB, PROPOSE, UPLOAD, Client, safetensors


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)


class TestWriting:
    def test_a_repository_is_created_once(self, hub: Hub, client: Client) -> None:
        assert client(
            "answer = [api.whoami()['name'], *(str(api.create_repo('org/m', exist_ok=True))"
            " for _ in range(2)), attempt(api.create_repo, 'org/m')]"
        ) == ["writer", *[f"{hub.store.endpoint}/org/m"] * 2, ["HfHubHTTPError", 409]]
        assert list(hub.repo("org/m").files()) == [".gitattributes"]

    def test_a_folder_becomes_one_commit_and_an_unchanged_folder_none(
        self, hub: Hub, client: Client
    ) -> None:
        repo = hub.create("org/m")
        assert client(UPLOAD) == repo.head().id
        assert client.uploaded()
        assert [path for path, blob in repo.files().items() if blob.lfs] == ["model.safetensors"]
        assert client(UPLOAD) == repo.head().id
        assert len(hub.asked("PUT")) == len(hub.asked("POST", "*/commit/*")) == 1
        assert len(repo.history()) == 2

    def test_large_files_pass_through_without_being_held(self, hub: Hub, client: Client) -> None:
        hub.create("org/m")
        path = client.folder / "upload/model.safetensors"
        with path.open("r+b") as file:
            file.truncate(150_000_000)
        tracemalloc.start()
        try:
            client(UPLOAD)
            found = client(DOWNLOAD, user=None)
            assert tracemalloc.get_traced_memory()[1] < 10 * MIB
        finally:
            tracemalloc.stop()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert hub.repo("org/m").files()["model.safetensors"].sha256 == digest
        assert hashlib.sha256(Path(found).read_bytes()).hexdigest() == digest

    def test_a_pull_request_is_opened_found_and_continued(self, hub: Hub, client: Client) -> None:
        repo = hub.create("org/m")
        assert client(PROPOSE, STRANGER) == f"{hub.store.endpoint}/org/m/discussions/1"
        assert client.uploaded("refs/pr/1")
        assert list(repo.files()) == [".gitattributes"]
        (client.folder / "upload/sub/config.json").write_text("[]")
        code = (
            "found = api.get_repo_discussions('org/m', discussion_type='pull_request',"
            " discussion_status='open', author='stranger')\n"
            "num = next(found).num\n"
            "api.upload_folder(repo_id='org/m', folder_path=folder, revision=f'refs/pr/{num}')\n"
            "refs = api.list_repo_refs('org/m', include_pull_requests=True)\n"
            "details = api.get_discussion_details('org/m', num)\n"
            "answer = [num, refs.pull_requests[0].target_commit, details.target_branch]"
        )
        assert client(code, STRANGER) == [1, repo.head("refs/pr/1").id, "refs/heads/main"]
        assert client.uploaded("refs/pr/1")
        assert len(repo.discussions) == 1

    def test_a_drafted_pull_request_can_be_opened_and_a_closed_one_takes_no_more(
        self, hub: Hub, client: Client
    ) -> None:
        repo = hub.create("org/m")
        code = (
            "pull = api.create_pull_request('org/m', title='t')\n"
            "steps = [api.change_discussion_status('org/m', pull.num, to).new_status"
            " for to in ('open', 'closed')]\n"
            f"{UPLOAD.replace('repo_id', 'revision=pull.git_reference, repo_id')}\n"
            "answer = [pull.status, *steps, answer]"
        )
        assert client(code) == ["draft", "open", "closed", ["BadRequestError", 400]]
        assert repo.discussions[0].status == "closed"

    def test_a_branch_is_made_and_a_stale_parent_refused(self, hub: Hub, client: Client) -> None:
        repo = hub.create("org/m")
        first = repo.head().id
        repo.write({"a": b"1"})
        code = (
            "api.create_branch('org/m', branch='v1')\n"
            f"named = dict(repo_id='org/m', folder_path=folder, parent_commit='{first}')\n"
            "answer = [attempt(api.create_branch, 'org/m', branch='v1'),"
            " attempt(api.upload_folder, **named)]"
        )
        assert client(code) == [["HfHubHTTPError", 409], ["HfHubHTTPError", 412]]
        assert list(repo.files("v1")) == [".gitattributes", "a"]

    def test_a_binary_file_of_unknown_suffix_is_added_to_the_attributes(
        self, hub: Hub, client: Client
    ) -> None:
        repo = hub.create("org/m")
        (client.folder / "upload/sub/x.dat").write_bytes(b"\0\1")
        client(UPLOAD)
        assert repo.files()["sub/x.dat"].lfs
        assert b"sub/x.dat filter=lfs" in repo.files()[".gitattributes"].read()

    def test_a_card_is_validated(self, client: Client) -> None:
        code = (
            "cards = [ModelCard(f'---\\nlicense: {name}\\n---\\n') for name in ('mit', 'no')]\n"
            "answer = [attempt(card.validate) for card in cards]"
        )
        assert client(code) == [None, ["ValueError", None]]


class TestReading:
    def test_listings_tell_sizes_and_hashes(self, hub: Hub, client: Client) -> None:
        data = safetensors(1000)
        names = [f"sub/{number:03}.json" for number in range(120)]  # several pages
        repo = hub.create("org/m", {"model.safetensors": data, **dict.fromkeys(names, b"{}")})
        code = (
            "tree = list(api.list_repo_tree('org/m', recursive=True))\n"
            "info = api.get_paths_info('org/m', ['model.safetensors', 'sub', 'none'])\n"
            "answer = [[each.path for each in tree], [each.path for each in info],"
            " info[0].size, info[0].lfs.sha256, api.list_repo_commits('org/m')[0].commit_id,"
            " [each.path for each in api.list_repo_tree('org/m')]]"
        )
        assert client(code) == [
            [".gitattributes", "model.safetensors", "sub", *names],
            ["model.safetensors", "sub"],
            len(data),
            hashlib.sha256(data).hexdigest(),
            repo.head().id,
            [".gitattributes", "model.safetensors", "sub"],
        ]
        assert len(hub.asked("GET", "*/tree/main")) == 3 + 1

    def test_headers_and_ranges_are_read_without_the_rest(self, hub: Hub, client: Client) -> None:
        data = safetensors(3 * MIB)
        hub.create("org/m", {"model.safetensors": data, "other.safetensors": data})
        code = (
            "from huggingface_hub import HfFileSystem\n"
            "file = HfFileSystem().open('org/m/model.safetensors', block_size=1 << 16)\n"
            "file.seek(1000000)\n"
            "parsed = api.parse_safetensors_file_metadata('org/m', 'other.safetensors')\n"
            "answer = [api.get_safetensors_metadata('org/m').parameter_count,"
            " parsed.tensors['a'].shape, file.read(1000).hex()]"
        )
        part = data[1_000_000:1_001_000].hex()
        assert client(code) == [{"U8": 3 * MIB}, [3 * MIB], part]
        asked = [request.headers.get("range") for request in hub.asked("GET", "/storage/*")]
        assert asked == ["bytes=0-100000", "bytes=0-100000", "bytes=1000000-1066535"]

    @pytest.mark.parametrize("spelling", ["refs/pr/1", "refs%2Fpr%2F1"])
    @pytest.mark.parametrize(
        ("asked", "status", "body"),
        [
            ("bytes=2-4", 206, b"234"),
            ("bytes=7-99", 206, b"789"),
            ("bytes=8-", 206, b"89"),
            ("bytes=-3", 206, b"789"),
            ("bytes=-99", 206, b"0123456789"),
            ("bytes=10-", 416, b""),
            ("bytes=-", 200, b"0123456789"),
            ("lines=1-2", 200, b"0123456789"),
        ],
    )
    def test_ranges(self, hub: Hub, spelling: str, asked: str, status: int, body: bytes) -> None:
        repo = hub.create("org/m", {"digits.txt": b"0123456789"})
        repo.open_discussion("t", "", "writer", base="main")
        path = f"/org/m/resolve/{spelling}/digits.txt"
        assert plain(hub, path, {"Range": asked}) == (status, body)

    def test_a_snapshot_is_complete_and_the_token_stays_with_the_hub(
        self, hub: Hub, client: Client
    ) -> None:
        files = {"model.safetensors": safetensors(1000), "config.json": b"{}"}
        hub.create("org/m", files, private=True)
        found = Path(client("answer = snapshot_download('org/m')"))
        assert {name: (found / name).read_bytes() for name in files} == files
        tokens = {request.token for request in hub.asked("GET", "/storage/*")}
        assert tokens == {None}
        assert {request.token for request in hub.asked("HEAD")} == {WRITER.token}


UNKNOWN = User("unknown", "hf_unknowntoken")
WHO = "answer = attempt(api.whoami)"
CREATE = "answer = attempt(api.create_repo, 'org/new')"
NONE = "answer = attempt(api.model_info, 'org/none')"
PRIVATE = "answer = attempt(lambda: api.model_info('org/private').id)"
GATED = DOWNLOAD.replace("org/m", "org/gated")


@pytest.mark.parametrize(
    ("user", "outcomes"),
    [
        (UNKNOWN, {WHO: ["HfHubHTTPError", 401]}),
        (
            None,
            {
                CREATE: ["HfHubHTTPError", 401],
                UPLOAD: ["HfHubHTTPError", 401],
                PRIVATE: ["RepositoryNotFoundError", 401],
                GATED: ["GatedRepoError", 401],
                DOWNLOAD: ["RemoteEntryNotFoundError", 404],
            },
        ),
        (
            STRANGER,
            {
                CREATE: ["HfHubHTTPError", 403],
                UPLOAD: ["HfHubHTTPError", 403],
                PRIVATE: ["RepositoryNotFoundError", 404],
                GATED: ["GatedRepoError", 403],
            },
        ),
        (
            READER,
            {
                CREATE: ["HfHubHTTPError", 403],
                UPLOAD: ["HfHubHTTPError", 403],
                PRIVATE: "org/private",
                NONE: ["RepositoryNotFoundError", 404],
            },
        ),
    ],
    ids=["unknown", "nobody", "stranger", "reader"],
)
def test_permissions(hub: Hub, client: Client, user: User | None, outcomes: dict[str, Any]) -> None:
    hub.create("org/m")
    hub.create("org/private", private=True)
    hub.create("org/gated", {"model.safetensors": b"1"}, gated=True)
    code = "answers = []\n" + "".join(f"{code}\nanswers.append(answer)\n" for code in outcomes)
    assert client(f"{code}\nanswer = answers", user) == list(outcomes.values())
    assert not hub.asked("PUT")


def plain(hub: Hub, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of a GET request made without huggingface_hub."""
    connection = http.client.HTTPConnection(hub.store.endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
