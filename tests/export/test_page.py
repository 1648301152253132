"""``page`` writes a site that is whole, holds what was asked for, and asks nobody else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tarfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

import sam21convert
from sam21convert.export.page import runtime, site
from sam21convert.export.page.folders import GRAPHS
from sam21convert.markup.browser_files import with_shared

from ..commands.test_commands import run
from ..support.exports import describe
from ..support.paths import PACKAGE, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

STATIC = PACKAGE / "export" / "page" / "static"
MODULES = [path for name, path in with_shared(STATIC).items() if name.endswith(".js")]
WRITES = "sam21convert convert SOURCE OUT --to onnx writes one"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like an exported model; nobody opens its graphs here."""
    return describe(tmp_path / "tiny", 1024)


@pytest.fixture
def ort(tmp_path: Path) -> Path:
    """Stand-ins for the files of onnxruntime-web."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in runtime.needed():
        (folder / name).write_text(name)
    return folder


def facts(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "site.json").read_text()))


class TestContents:
    def test_all_that_the_page_needs_is_in_one_folder(
        self, model: Path, ort: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "site"
        report = sam21convert.page(model, out, runtime=ort)
        files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        graphs = {f"models/tiny/onnx/{graph}.onnx" for graph in GRAPHS}
        sides = {"models/tiny/config.json", "models/tiny/preprocessor_config.json", "site.json"}
        own = {*with_shared(STATIC)}
        assert files == own | graphs | sides | {f"runtime/{name}" for name in runtime.needed()}
        assert report.files == len(files)
        assert report.bytes == sum((out / name).stat().st_size for name in files)
        assert "python -m http.server" in str(report)
        assert report.alerts() == (
            f"{model}: has no golden example, so that the page cannot check it",
        )

    def test_what_the_page_is_told(self, model: Path, ort: Path, tmp_path: Path) -> None:
        (model / "onnx" / f"{GRAPHS[0]}_fp16.onnx").write_bytes(bytes(9))
        for graph in GRAPHS:
            (model / "onnx" / f"{graph}_quantized.onnx").write_bytes(bytes(7))
        (model / "onnx" / f"{GRAPHS[0]}.onnx_data").write_bytes(bytes(50))
        (model / "golden").mkdir()
        for name in ("expected.json", "picture.png"):
            (model / "golden" / name).write_bytes(bytes(3))
        out = tmp_path / "site"
        report = sam21convert.page(model, out, runtime=ort)
        (told,) = facts(out)["models"]
        assert (told["side"], told["base"]) == (1024, "models/tiny/")
        assert told["mean"] == pytest.approx([0.485, 0.456, 0.406])
        assert told["golden"] == {"expected.json": 3, "picture.png": 3}
        whole, small = told["variants"]  # fp16 has one file of two
        assert [(one["file"], one["bytes"]) for one in whole["files"]] == [
            (f"onnx/{GRAPHS[0]}.onnx", 2000),
            (f"onnx/{GRAPHS[0]}.onnx_data", 50),
            (f"onnx/{GRAPHS[1]}.onnx", 1000),
        ]
        assert (whole["name"], small["name"]) == ("fp32", "q8")
        assert all((out / told["base"] / one["file"]).is_file() for one in whole["files"])
        assert report.models[0].variants == {"fp32": 3050, "q8": 14}
        assert report.alerts() == ()

    def test_the_only_export_in_a_folder(self, model: Path, ort: Path, tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):  # of an export of this package
            (model / "onnx" / name).touch()
        above = tmp_path / "runs"
        above.mkdir()
        model.rename(above / "tiny")
        report = sam21convert.page(above, tmp_path / "site", runtime=ort)
        assert [one.name for one in report.models] == ["tiny"]
        assert (tmp_path / "site/models/tiny/onnx" / f"{GRAPHS[0]}.onnx").is_file()

    def test_graphs_of_the_folder_itself_come_first(
        self, model: Path, ort: Path, tmp_path: Path
    ) -> None:
        """As other programs write them: without what tells an export of this package."""
        below = describe(model / "below", 512)
        for name in ("config.json", "model.safetensors"):
            (below / "onnx" / name).touch()
        report = sam21convert.page(model, tmp_path / "site", runtime=ort)
        assert [one.name for one in report.models] == ["tiny"]

    def test_two_models_of_one_name(self, model: Path, ort: Path, tmp_path: Path) -> None:
        other = describe(tmp_path / "new" / "tiny", 512)
        report = sam21convert.page([model, other], tmp_path / "site", runtime=ort)
        assert [one.name for one in report.models] == ["tiny", "tiny~2"]
        sides = [one["side"] for one in facts(tmp_path / "site")["models"]]
        assert sides == [1024, 512]

    def test_a_title_is_text(self, model: Path, ort: Path, tmp_path: Path) -> None:
        sam21convert.page(model, tmp_path / "site", runtime=ort, title="<b>A&B</b>")
        html = (tmp_path / "site" / "index.html").read_text()
        assert html.count("&lt;b&gt;A&amp;B&lt;/b&gt;") == 2
        assert "<b>A" not in html
        assert "{{" not in html

    def test_replacing_a_page_leaves_no_model_of_the_old_one(
        self, model: Path, ort: Path, tmp_path: Path
    ) -> None:
        out, other = tmp_path / "site", describe(tmp_path / "other", 512)
        sam21convert.page(model, out, runtime=ort)
        with pytest.raises(sam21convert.UsageError, match="exists"):
            sam21convert.page(other, out, runtime=ort)
        sam21convert.page(other, out, runtime=ort, overwrite=True)
        assert os.listdir(out / "models") == ["other"]


class TestNobodyElseIsAsked:
    def test_the_policy_allows_the_page_alone(self, model: Path, ort: Path, tmp_path: Path) -> None:
        sam21convert.page(model, tmp_path / "site", runtime=ort)
        html = (tmp_path / "site" / "index.html").read_text()
        assert "default-src &#x27;none&#x27;" in html
        assert "://" not in html.replace("http://localhost", "")
        assert not re.search(r"<script(?! type=\"module\" src)|<style|\son\w+=|\sstyle=", html)

    def test_with_a_cdn_it_allows_that_version_of_the_runtime(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        out = tmp_path / "site"
        report = sam21convert.page(model, out, cdn=True)
        assert report.cdn == f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{runtime.VERSION}/dist/"
        html = (out / "index.html").read_text()
        assert html.count(report.cdn) == html.count("://") - html.count("http://localhost") == 2
        assert not (out / "runtime").exists()

    @pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
    def test_modules_import_each_other_and_nothing_else(self, path: Path) -> None:
        code = path.read_text()
        assert len(code.splitlines()) < 350
        for name in re.findall(r"from \"(.+?)\"", code):
            assert Path(name).name in with_shared(STATIC)
        assert "://" not in code
        assert "innerHTML" not in code


class TestRefused:
    def refused(self, *folders: Path, tmp_path: Path, code: int = 3) -> str:
        before = sorted(tmp_path.iterdir())
        result = run("page", *folders, tmp_path / "site", "--cdn")
        assert result.exit_code == code, result.output
        assert sorted(tmp_path.iterdir()) == before
        return result.stderr

    def test_a_checkpoint_and_the_way_out(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pt"
        path.write_bytes(bytes(9))
        said = self.refused(path, tmp_path=tmp_path)
        assert f"{path}: expected a folder with an exported model, found a file" in said
        assert f"sam21convert convert {path} OUT --to onnx writes one" in said

    def test_a_folder_with_a_checkpoint_and_the_way_out(self, tmp_path: Path) -> None:
        folder = tmp_path / "tuned"
        folder.mkdir()
        (folder / "model.pt").write_bytes(bytes(9))
        said = self.refused(folder, tmp_path=tmp_path)
        assert f"sam21convert convert {folder} OUT --to onnx writes one" in said

    @pytest.mark.parametrize("name", [*(f"onnx/{one}.onnx" for one in GRAPHS)])
    def test_a_graph_is_missing(self, model: Path, tmp_path: Path, name: str) -> None:
        (model / name).unlink()
        said = self.refused(model, tmp_path=tmp_path)
        assert f"found a folder with no {name}\n" in said
        assert WRITES in said

    def test_another_kind_of_folder(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, tmp_path=tmp_path)
        assert f"no onnx/{GRAPHS[0]}.onnx and no onnx/{GRAPHS[1]}.onnx" in said

    def test_nothing_says_the_image_size(self, model: Path, tmp_path: Path) -> None:
        (model / "preprocessor_config.json").unlink()
        assert "found a folder with no preprocessor_config.json" in self.refused(
            model, tmp_path=tmp_path
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"size": {"height": 1024, "width": 512}}, "size: expected two equal multiples of 16"),
            ({"size": 100}, "size: expected two equal multiples of 16, found 100"),
            ({"image_std": [1, 1, 0]}, "image_std: expected three positive numbers"),
            ({"image_mean": "grey"}, "image_mean: expected three positive numbers, found 'grey'"),
        ],
    )
    def test_a_size_or_colours_that_cannot_be(
        self, model: Path, tmp_path: Path, change: dict[str, object], said: str
    ) -> None:
        path = model / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert said in self.refused(model, tmp_path=tmp_path)

    def test_a_folder_that_is_not_there(self, model: Path, tmp_path: Path) -> None:
        said = self.refused(tmp_path / "tiny2", tmp_path=tmp_path)
        assert "tiny2: No such file or directory" in said
        assert f"did you mean {model}?" in said

    def test_three_models(self, model: Path, tmp_path: Path) -> None:
        said = self.refused(model, model, model, tmp_path=tmp_path, code=2)
        assert "expected one or 2, found 3" in said

    def test_a_runtime_and_a_cdn(self, model: Path, ort: Path, tmp_path: Path) -> None:
        result = run("page", model, tmp_path / "site", "--cdn", "--runtime", ort)
        assert result.exit_code == 2
        assert "--cdn: cannot be combined with --runtime" in result.stderr


class TestTheRuntime:
    """npm is a script here, that packs what a test gives it."""

    @pytest.fixture
    def npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder / "npm"

    def pack(self, npm: Path, ort: Path) -> str:
        """Let npm give an archive; returns its integrity."""
        archive = npm.parent / "ort.archive"
        with tarfile.open(archive, "w:gz") as content:
            content.add(ort, "package/dist")
        npm.write_text(f"#!/bin/sh\ncp {archive} onnxruntime-web-1.tgz\n")
        npm.chmod(0o755)
        return f"sha512-{b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()}"

    def test_it_comes_from_npm_and_is_checked(
        self, npm: Path, ort: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (ort / "not-needed.js").touch()
        monkeypatch.setattr(runtime, "INTEGRITY", self.pack(npm, ort))
        result = run("page", model, tmp_path / "site")
        assert result.exit_code == 0, result.output
        assert sorted(os.listdir(tmp_path / "site" / "runtime")) == sorted(runtime.needed())

    def test_another_archive_is_refused(
        self, npm: Path, ort: Path, model: Path, tmp_path: Path
    ) -> None:
        found = self.pack(npm, ort)
        result = run("page", model, tmp_path / "site")
        assert result.exit_code == 3
        assert f"expected {runtime.INTEGRITY}, found {found}" in result.stderr
        assert "--cdn has browsers load the runtime" in result.stderr
        assert not (tmp_path / "site").exists()

    def test_npm_fails(self, npm: Path, model: Path, tmp_path: Path) -> None:
        npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\necho more >&2\nexit 1\n")
        npm.chmod(0o755)
        result = run("page", model, tmp_path / "site")
        assert result.exit_code == 3
        assert "cannot be downloaded: npm error code ENOTFOUND\n" in result.stderr
        assert "hint: --cdn has browsers load the runtime" in result.stderr
        assert not (tmp_path / "site").exists()

    def test_there_is_no_npm(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        result = run("page", model, tmp_path / "site")
        assert result.exit_code == 2
        assert "npm: not found" in result.stderr
        assert "install Node.js, which brings npm, or --cdn" in result.stderr
        assert not (tmp_path / "site").exists()
        assert run("page", model, tmp_path / "site", "--cdn").exit_code == 0

    def test_a_folder_that_lacks_a_file(self, ort: Path, model: Path, tmp_path: Path) -> None:
        (ort / "ort.wasm.min.mjs").unlink()
        result = run("page", model, tmp_path / "site", "--runtime", ort)
        assert result.exit_code == 3
        assert f"{ort}: holds no ort.wasm.min.mjs" in result.stderr
        assert not (tmp_path / "site").exists()


def test_the_files_of_the_page_are_part_of_the_package() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (pattern,) = setup["package-data"]["sam21convert.export.page"]
    assert {*STATIC.parent.glob(pattern)} == {*STATIC.iterdir()} != set()


def test_it_needs_neither_torch_nor_onnxruntime() -> None:
    modules = {"torch", "onnxruntime", "onnx", "numpy"}
    for path in STATIC.parent.glob("*.py"):
        assert not modules & {*re.findall(r"(?:import|from) (\w+)", path.read_text())}


def test_the_policy_names_no_wildcard() -> None:
    for cdn in (False, True):
        assert "*" not in site.policy(cdn=cdn)
        assert "unsafe-inline" not in site.policy(cdn=cdn)
