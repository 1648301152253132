"""What the server answers, whom, and how much it keeps."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import TestCase

import numpy as np
import pytest
from PIL import Image

from sam21convert.errors import UsageError
from sam21convert.markup.browser_files import SHARED
from sam21convert.prediction.media import new_video
from sam21convert.web.limits import JSON_BYTES, Limits
from sam21convert.web.sides import Side, open_sides

from ..support.paths import PACKAGE
from ..support.web import Page, Served, serving

STATIC = PACKAGE / "web" / "static"
SMALL = Limits(upload_bytes=300_000, pixels=40_000, frames=20, sessions=2, idle_seconds=60)
POINT: Any = {"points": [[5, 5, 1]]}


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pages have their files."""
    home = tmp_path / "homes"
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    return home


@pytest.fixture
def small(one: tuple[Side, ...], homes: Path) -> Iterator[Served]:
    """A server with small limits; it leaves no file, and has logged nothing of what was wrong."""
    with TestCase().assertNoLogs("uvicorn", "WARNING"), serving(one, SMALL) as server:
        yield server
    assert [*homes.iterdir()] == []


def kept(homes: Path) -> list[str]:
    """The files of all pages."""
    return sorted(path.name for path in homes.rglob("*") if path.is_file())


class TestWhoMayAsk:
    @pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "localhost"])
    def test_this_machine(self, alone: Served, host: str) -> None:
        status, _, _ = alone.request("GET", "/", Host=host.format(alone.port))
        assert status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "evil.example:7860"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
        ids=str,
    )
    def test_nobody_else(self, alone: Served, headers: dict[str, str]) -> None:
        before = len(alone.app.sessions)
        for method, path in (("POST", "/api/begin"), ("GET", "/"), ("GET", "/app.js")):
            status, body, _ = alone.request(method, path, **headers)
            assert (status, b"does not answer" in body or b"its own page" in body) == (403, True)
        assert len(alone.app.sessions) == before

    def test_its_own_page(self, alone: Served) -> None:
        origin = {"Origin": alone.address.rstrip("/"), "Sec_Fetch_Site": "same-origin"}
        status, body, _ = alone.request("POST", "/api/begin", **origin)
        assert status == 200
        alone.app.sessions.end(json.loads(body)["session"])

    def test_a_link_of_another_site_may_lead_here(self, alone: Served) -> None:
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert alone.request("GET", "/", **link)[0] == 200
        assert alone.request("POST", "/api/begin", **link)[0] == 403

    def test_any_name_where_everybody_may_ask(self, one: tuple[Side, ...]) -> None:
        """Behind a proxy, which may change the name; other sites still ask nothing."""
        with serving(one, hosts=None) as server:
            behind = {"Host": "10.0.0.7:7860", "Origin": "https://me-app.hf.space"}
            begun = server.request("POST", "/api/begin", Sec_Fetch_Site="same-origin", **behind)
            assert (begun[0], json.loads(begun[1])["local"]) == (200, False)
            theirs = server.request("POST", "/api/begin", Sec_Fetch_Site="cross-site", **behind)
            assert theirs[0] == 403

    def test_a_name_that_was_given(self, one: tuple[Side, ...]) -> None:
        with serving(one, hosts=["me-app.hf.space"]) as server:
            assert server.request("GET", "/", Host="me-app.hf.space")[0] == 200
            assert server.request("GET", "/", Host="other.hf.space")[0] == 403


class TestFiles:
    def test_all_files_of_the_page_and_no_other(self, alone: Served) -> None:
        for path in [*STATIC.iterdir(), *SHARED.iterdir()]:
            assert alone.request("GET", f"/{path.name}")[1] == path.read_bytes()
        for name in ("app.py", "..%2fapp.py", "../app.py", "%2fetc%2fpasswd", "static/app.js"):
            assert alone.request("GET", f"/{name}")[0] == 404

    def test_no_answer_may_load_from_elsewhere_or_be_kept(self, alone: Served) -> None:
        for path in ("/", "/app.js", "/nothing", "/api/nobody/frame/0"):
            headers = {name.lower(): text for name, text in alone.request("GET", path)[2].items()}
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; ")
            assert "frame-ancestors 'none'" in policy
            assert not {"*", "unsafe-inline", "http:", "https:"} & {*policy.split()}
            assert headers["cache-control"] == "no-store"

    def test_modules_import_each_other_and_nothing_else(self) -> None:
        names = {path.name for path in [*STATIC.iterdir(), *SHARED.iterdir()]}
        for path in STATIC.glob("*.js"):
            code = path.read_text()
            assert len(code.splitlines()) < 350, path
            for line in code.splitlines():
                if line.startswith(("import ", "} from ")):
                    assert line.rpartition('"./')[2].removesuffix('";') in names
            assert "innerHTML" not in code
            assert "://" not in code.replace("http://www.w3.org/2000/svg", "")
        html = (STATIC / "index.html").read_text()
        assert "://" not in html
        assert " style=" not in html
        assert " on" + "click" not in html


class TestUploads:
    @pytest.mark.parametrize(
        "name",
        [
            "",
            "..",
            "../a.png",
            "a/b.png",
            "/etc/passwd",
            "a\\b",
            ".hidden",
            "C:x",
            "a\nb",
            "x" * 300,
        ],
    )
    def test_paths_outside_are_refused(self, small: Served, work: Path, name: str) -> None:
        page = Page(small)
        status, body = page.raw("POST", f"upload?name={name_in_address(name)}", b"data")
        assert (status, "without a folder" in json.loads(body)["error"]) == (422, True)
        end = page.lines("open", names=[name])[-1]
        assert "without a folder" in end["error"]

    def test_too_many_bytes_are_refused_and_not_kept(
        self, small: Served, homes: Path, tmp_path: Path
    ) -> None:
        page = Page(small)
        (tmp_path / "large.bin").write_bytes(bytes(300_001))
        said = page.upload(tmp_path / "large.bin", status=422)["error"]
        assert said == "large.bin: is too large: the files of a page may have 300.0 kB"
        assert kept(homes) == []

    def test_bytes_that_were_not_announced_count_too(self, small: Served, homes: Path) -> None:
        page = Page(small)
        with socket.create_connection(("127.0.0.1", small.port)) as line:
            head = f"POST {page.home}/upload?name=a.bin HTTP/1.1\r\nHost: localhost\r\n"
            line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            for _ in range(5):
                line.sendall(chunk)
            assert b" 422 " in line.recv(1000)
        assert kept(homes) == []

    def test_all_files_of_a_page_count_together(self, small: Served, tmp_path: Path) -> None:
        page = Page(small)
        (tmp_path / "half.bin").write_bytes(bytes(160_000))
        page.upload(tmp_path / "half.bin", "a.bin")
        page.upload(tmp_path / "half.bin", "b.bin", status=422)
        page.ask("clear")
        page.upload(tmp_path / "half.bin", "b.bin")

    def test_a_page_that_goes_away_within_a_file(self, small: Served, homes: Path) -> None:
        page = Page(small)
        with socket.create_connection(("127.0.0.1", small.port)) as line:
            head = f"POST {page.home}/upload?name=a.bin HTTP/1.1\r\nHost: localhost\r\n"
            line.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + bytes(500))
            until(lambda: kept(homes) == ["a.bin"])
        until(lambda: kept(homes) == [])
        page.ask("here")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            (
                "notes.txt",
                b"hello",
                "notes.txt: is neither a picture (JPEG, PNG, WebP, BMP or TIFF)",
            ),
            ("empty.png", b"", "empty.png: is neither a picture"),
            ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(90), "cut.png: cannot be read as a picture"),
            ("cut.mp4", b"\0\0\0\x18ftypmp42" + bytes(90), "cut.mp4: cannot be decoded as a video"),
            ("list.m3u8", b"#EXTM3U\n/etc/passwd", "list.m3u8: is neither a picture"),
        ],
    )
    def test_a_broken_file_ends_neither_page_nor_server(
        self,
        small: Served,
        homes: Path,
        work: Path,
        tmp_path: Path,
        name: str,
        content: bytes,
        said: str,
    ) -> None:
        page = Page(small)
        (tmp_path / name).write_bytes(content)
        error = page.open(tmp_path / name)["error"]
        assert error.startswith(said)
        assert str(homes) not in error
        assert kept(homes) == []
        page.open(work / "house.png")
        assert page.ask("prompt", **POINT)["sides"]

    def test_pixels(self, small: Served, tmp_path: Path) -> None:
        page = Page(small)
        Image.new("RGB", (201, 200)).save(tmp_path / "large.png")
        found = page.open(tmp_path / "large.png")
        assert found["error"].startswith(
            "large.png: has 201 x 200 pixels (width x height), 40,200 in all, more than the 40,000"
        )
        Image.new("RGB", (200, 200)).save(tmp_path / "right.png")
        assert page.open(tmp_path / "right.png")["kind"] == "picture"

    def test_frames(self, small: Served, homes: Path, tmp_path: Path) -> None:
        page = Page(small)
        for count in (20, 21):
            path = tmp_path / f"{count}.mp4"
            with new_video(path, Fraction(10), 32, 32) as append:
                for number in range(count):
                    append(np.full((32, 32, 3), number, np.uint8))
        assert page.open(tmp_path / "20.mp4")["frames"] == 20
        found = page.open(tmp_path / "21.mp4")
        assert found["error"].startswith("21.mp4: has 21 frames, more than the 20 that a page")
        assert kept(homes) == []

    def test_the_usual_limits(self, one: tuple[Side, ...], tmp_path: Path) -> None:
        """A picture of 30 megapixels, and a clip of 2,000 frames."""
        with serving(one) as server:
            page = Page(server)
            Image.new("L", (6000, 5000)).save(tmp_path / "huge.png")
            assert (
                "30,000,000 in all, more than the 25" in page.open(tmp_path / "huge.png")["error"]
            )
            path = tmp_path / "long.mp4"
            with new_video(path, Fraction(30), 16, 16) as append:
                for _ in range(2000):
                    append(np.zeros((16, 16, 3), np.uint8))
            assert "long.mp4: has 2,000 frames, more than the 500" in page.open(path)["error"]

    def test_frames_of_two_sizes_and_without_numbers(self, small: Served, tmp_path: Path) -> None:
        page = Page(small)
        for name, side in (("1.jpg", 32), ("2.jpg", 40), ("a.jpg", 32)):
            Image.new("RGB", (side, side)).save(tmp_path / name)
        found = page.open(tmp_path / "1.jpg", tmp_path / "2.jpg")
        assert found["error"].startswith("2.jpg: expected 32 x 32 pixels (height x width) as in")
        found = page.open(tmp_path / "1.jpg", tmp_path / "a.jpg")
        assert found["error"].startswith("a.jpg: expected a frame number as name")

    def test_a_question_that_is_none(self, small: Served) -> None:
        page = Page(small)
        for body in (b"", b"[]", b"{", b"5", b"\xff", b"[" * 5000):
            status, answer = page.raw("POST", "prompt", body)
            assert (status, "is not an object of JSON" in json.loads(answer)["error"]) == (
                422,
                True,
            )
        assert page.raw("POST", "prompt", b" " * (JSON_BYTES + 1))[0] == 422


def name_in_address(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def until(true: object) -> None:
    end = time.monotonic() + 20
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


class TestSessions:
    def test_two_pages_do_not_mix(self, small: Served, work: Path, tmp_path: Path) -> None:
        one, other = Page(small), Page(small)
        Image.open(work / "house.png").rotate(180).save(tmp_path / "house.png")
        one.open(work / "house.png")
        other.open(tmp_path / "house.png")
        first = one.ask("prompt", **POINT)
        assert other.ask("prompt", **POINT) != first
        assert one.ask("prompt", **POINT) == first
        other.ask("clear")
        assert one.ask("prompt", **POINT) == first
        assert "no picture is open" in other.ask("prompt", 422, **POINT)["error"]

    def test_a_closed_page_leaves_nothing(
        self, small: Served, homes: Path, frames: list[Path]
    ) -> None:
        page = Page(small)
        page.open(*frames)
        assert len(kept(homes)) == 2 * len(frames)
        page.ask("close")
        assert [*homes.iterdir()] == []
        answer = page.ask("prompt", 410, **POINT)
        assert answer["error"].startswith("the server does not know this page")
        assert answer["hint"] == "reload the page"

    def test_a_picture_is_not_kept_as_a_file(self, small: Served, homes: Path, work: Path) -> None:
        page = Page(small)
        page.open(work / "house.png")
        assert kept(homes) == []

    def test_another_file_takes_the_place_of_the_first(
        self, small: Served, homes: Path, work: Path, frames: list[Path]
    ) -> None:
        page = Page(small)
        page.open(*frames)
        page.open(work / "house.png")
        assert kept(homes) == []

    def test_too_many_pages(self, small: Served) -> None:
        pages = [Page(small), Page(small)]
        status, body, _ = small.request("POST", "/api/begin")
        assert (status, b"2 pages are open" in body) == (422, True)
        pages[0].ask("close")
        Page(small)

    def test_idle_pages_are_forgotten(self, one: tuple[Side, ...], homes: Path, work: Path) -> None:
        with serving(one, Limits(idle_seconds=0.2)) as server:
            idle, present = Page(server), Page(server)
            idle.open(work / "house.png")
            for _ in range(8):
                time.sleep(0.05)
                present.ask("here")
            assert len(server.app.sessions) == len([*homes.iterdir()]) == 1
            idle.ask("prompt", 410, **POINT)

    def test_names_of_pages_cannot_be_guessed(self, small: Served) -> None:
        for token in ("", "x", "%00", "..", "A" * 32):
            assert small.request("POST", f"/api/{token}/prompt", "{}")[0] in (404, 405, 410)
        names = {Page(small).facts["session"] for _ in range(2)}
        assert len(names) == 2
        assert all(len(name) == 32 for name in names)

    def test_a_page_that_is_closed_while_it_is_answered(
        self, small: Served, homes: Path, work: Path
    ) -> None:
        page = Page(small)
        page.open(work / "house.png")
        ended: list[object] = []
        thread = threading.Thread(
            target=lambda: ended.extend(page.lines("everything", points_per_side=64))
        )
        thread.start()
        session = small.app.sessions.get(page.facts["session"])
        until(session.turn.locked)
        page.ask("close")
        thread.join()
        assert ended[-1] == {"stopped": True}
        assert [*homes.iterdir()] == []


class TestFaults:
    def test_a_fault_of_ours_is_told_and_ends_nothing(
        self, small: Served, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = Page(small)
        page.open(work / "house.png")

        def fail(*_: object) -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr("sam21convert.web.picture.Picture.prompt", fail)
        answer = page.ask("prompt", 500, **POINT)
        assert answer["error"].startswith("a fault of sam21convert")
        assert answer["error"].endswith("RuntimeError: on purpose")
        monkeypatch.undo()
        assert page.ask("prompt", **POINT)["sides"]

    def test_no_memory(self, small: Served, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        page = Page(small)
        page.open(work / "house.png")

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("sam21convert.web.picture.Picture.prompt", fail)
        assert page.ask("prompt", 422, **POINT)["error"] == "not enough memory"


class TestCheckpoints:
    def test_an_image_model_follows_nothing(
        self, work: Path, tmp_path: Path, frames: list[Path]
    ) -> None:
        import sam21convert

        sam21convert.convert(work / "first.pt", tmp_path / "image", to="hf-image")
        sides = open_sides([str(tmp_path / "image"), str(work / "first.pt")], device="cpu")
        with serving(sides) as server:
            page = Page(server)
            assert [side["videos"] for side in page.facts["sides"]] == [False, True]
            error = page.open(*frames)["error"]
            assert error.startswith("image: is an image model, or an export for pictures alone")
            page.open(work / "house.png")
            one, other = page.ask("prompt", **POINT)["sides"]
            assert one == other

    def test_names_tell_them_apart(self, work: Path, tmp_path: Path) -> None:
        for folder in ("old", "new"):
            (tmp_path / folder).mkdir()
            shutil.copy(work / "first.pt", tmp_path / folder / "model.pt")
        given = [str(tmp_path / folder / "model.pt") for folder in ("old", "new")]
        names = [side.name for side in open_sides(given, device="cpu")]
        assert names == ["old/model.pt", "new/model.pt"]
        same = [side.name for side in open_sides([given[0]] * 2, device="cpu")]
        assert same == ["model.pt (1)", "model.pt (2)"]

    def test_not_one_or_two(self, work: Path) -> None:
        for count in (0, 3):
            with pytest.raises(UsageError, match=f"expected one or 2, found {count}"):
                open_sides([str(work / "first.pt")] * count)
