"""Parts of a model that were saved alone, under names of their own, and models of images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam21convert import batch, convert, inspect, load_model, validate
from sam21convert.checkpoint.parts import PARTS, folded, names_of
from sam21convert.config.registry import SHIPPED, shipped_tensors
from sam21convert.dialects import DIALECTS, HF_IMAGE
from sam21convert.dialects.keymap import compile_keymap, covers
from sam21convert.errors import MismatchError, RefusedError

from ..support.checkpoints import DEBUG_20, official_pt, state_dict

State = dict[str, torch.Tensor]
ROOTS = {  # where each part stands in the names of a package
    "official": (
        "image_encoder",
        "image_encoder.trunk",
        "sam_prompt_encoder",
        "sam_mask_decoder",
        "memory_attention",
        "memory_encoder",
    ),
    "hf-video": (
        "vision_encoder",
        "vision_encoder.backbone",
        "prompt_encoder",
        "mask_decoder",
        "memory_attention",
        "memory_encoder",
    ),
}
NAMES = tuple(part.name for part in PARTS)
MODULES = [
    (dialect, root, name)
    for dialect, roots in ROOTS.items()
    for root, name in zip(roots, NAMES, strict=True)
]
WRAPPED: dict[str, Callable[[State], Mapping[str, Any]]] = {
    "nothing": dict,
    "a key": lambda state: {"model_state_dict": state, "epoch": 3},
    "DDP": lambda state: {f"module.{name}": value for name, value in state.items()},
    "torch.compile": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "an attribute": lambda state: {
        "state_dict": {f"net.own.{name}": value for name, value in state.items()}
    },
}


def below(state: State, root: str) -> State:
    """What ``state_dict()`` of a module gives."""
    start = f"{root}."
    return {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """The same model in the names of both packages."""
    official = state_dict()
    keymap = compile_keymap(
        next(d for d in DIALECTS if d.name == "hf-video"), shipped_tensors("debug/sam2.1_debug")
    )
    hf = {
        entry.key: torch.cat([official[name] for name in entry.canonical])
        if len(entry.canonical) > 1
        else official[entry.canonical[0]]
        for entry in keymap.entries
    }
    return {"official": official, "hf-video": hf}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights, which fill what a part lacks."""
    return official_pt(tmp_path_factory.mktemp("base") / "base.pt", state_dict(seed=1))


def assert_completed(path: Path, roots: tuple[str, ...]) -> None:
    """What stands below ``roots`` is of the part, the rest of the base."""
    own, other, found = state_dict(), state_dict(seed=1), torch.load(path)["model"]
    assert list(found) == list(own)
    for name, tensor in found.items():
        mine = name.startswith(tuple(root and f"{root}." for root in roots))
        assert torch.equal(tensor, (own if mine else other)[name]), name


class TestAlone:
    """``module.state_dict()`` of one part, in any wrapper."""

    @pytest.mark.parametrize(("dialect", "root", "name"), MODULES)
    def test_a_part_is_recognised(
        self, tmp_path: Path, states: dict[str, State], dialect: str, root: str, name: str
    ) -> None:
        path = tmp_path / "part.pt"
        for wrap in WRAPPED.values():
            torch.save(wrap(below(states[dialect], root)), path)
            found = inspect(path)
            assert found.parts == (name,)
            assert (found.dialect or "").partition("-")[0] == dialect.partition("-")[0]
            assert f"the names of the {name} " in " ".join(found.notes)
            assert f"holds only the {name} of a SAM 2" in found.problems[0]

    @pytest.mark.parametrize(("dialect", "root", "name"), MODULES)
    def test_without_a_base_it_is_refused_and_with_one_completed(
        self,
        tmp_path: Path,
        states: dict[str, State],
        base: Path,
        dialect: str,
        root: str,
        name: str,
    ) -> None:
        path, out = tmp_path / "part.pt", tmp_path / "whole.pt"
        torch.save(WRAPPED["an attribute"](below(states[dialect], root)), path)
        with pytest.raises(MismatchError, match=f"holds only the {name} of a SAM 2") as caught:
            convert(path, out)
        assert not out.exists()
        [option] = str(caught.value.hint).split("`")[1::2]
        assert option == f"convert({path}, OUT, base=CHECKPOINT)"
        done = convert(path, out, base=base)
        assert_completed(out, (ROOTS["official"][NAMES.index(name)],))
        assert any(f"were taken from {base}" in note for note in done.notes)

    def test_neither_validate_nor_load_model_takes_a_part(
        self, tmp_path: Path, states: dict[str, State]
    ) -> None:
        torch.save(below(states["official"], "sam_mask_decoder"), tmp_path / "part.pt")
        found = validate(tmp_path / "part.pt")
        assert found.exit_code == 1
        assert "holds only the mask decoder" in str(found)
        assert "base=CHECKPOINT)`" in str(found.hint)
        with pytest.raises(MismatchError, match="holds only the mask decoder"):
            load_model(tmp_path / "part.pt")

    def test_a_trunk_is_enough_for_timm(self, tmp_path: Path, states: dict[str, State]) -> None:
        for number, (dialect, root) in enumerate(
            [
                ("official", "image_encoder.trunk"),
                ("official", "image_encoder"),
                ("hf-video", "vision_encoder.backbone"),
            ]
        ):
            torch.save(below(states[dialect], root), tmp_path / "part.pt")
            done = convert(tmp_path / "part.pt", tmp_path / str(number), to="timm")
            assert done.dialect == "timm"
        one, two, three = ((tmp_path / n / "model.safetensors").read_bytes() for n in "012")
        assert one == two == three
        assert inspect(tmp_path / "0").dialect == "timm"
        assert inspect(tmp_path / "0").parts == ()

    def test_what_stands_within_a_part_is_not_lost(
        self, tmp_path: Path, states: dict[str, State], base: Path
    ) -> None:
        decoder = below(states["official"], "sam_mask_decoder")
        torch.save({**decoder, "own_mlp.weight": torch.ones(2)}, tmp_path / "part.pt")
        with pytest.raises(MismatchError, match=r"sam_mask_decoder\.own_mlp\.weight"):
            convert(tmp_path / "part.pt", tmp_path / "whole.pt", base=base)
        with pytest.raises(RefusedError, match="another model"):
            convert(tmp_path / "part.pt", tmp_path / "w.pt", base=base, drop="*own_mlp.weight")

    def test_a_base_of_another_size_or_generation_is_refused(
        self, tmp_path: Path, states: dict[str, State]
    ) -> None:
        torch.save(below(states["official"], "image_encoder"), tmp_path / "part.pt")
        torch.save(below(states["official"], "memory_encoder"), tmp_path / "memory.pt")
        tensors = shipped_tensors("sam2.1/sam2.1_hiera_t")
        tiny = {n: torch.zeros(1).expand(spec.shape) for n, spec in tensors.items()}
        larger = official_pt(tmp_path / "tiny.pt", tiny)
        for part in ("part.pt", "memory.pt"):
            with pytest.raises(MismatchError):
                convert(tmp_path / part, tmp_path / "whole.pt", base=larger)
        older = official_pt(tmp_path / "older.pt", state_dict(DEBUG_20))
        assert convert(tmp_path / "memory.pt", tmp_path / "w.pt", base=older).generation == "2.0"

    def test_the_encoder_of_transformers_in_a_folder(self, tmp_path: Path, base: Path) -> None:
        """``Sam2VisionModel.save_pretrained`` and ``Sam2HieraDetModel.save_pretrained``."""
        from transformers import Sam2Model

        convert(official_pt(tmp_path / "m.pt"), tmp_path / "image", to="hf-image")
        model = Sam2Model.from_pretrained(tmp_path / "image")
        encoder: Any = model.vision_encoder
        encoder.save_pretrained(tmp_path / "vision")
        encoder.backbone.save_pretrained(tmp_path / "trunk")
        for name, root in (("vision", "image_encoder"), ("trunk", "image_encoder.trunk")):
            assert inspect(tmp_path / name).dialect == "hf-image"
            assert len(inspect(tmp_path / name).parts) == 1
            convert(tmp_path / name, tmp_path / f"{name}.pt", base=base)
            assert_completed(tmp_path / f"{name}.pt", (root,))


class TestSeveral:
    """Several parts of one model are put together; parts of two models are listed."""

    ROOTS = ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder")

    def parts(self, states: dict[str, State], keys: tuple[str, ...]) -> dict[str, State]:
        official = states["official"]
        return {key: below(official, root) for key, root in zip(keys, self.ROOTS, strict=True)}

    @pytest.mark.parametrize(
        "keys",
        [
            ("image_encoder", "prompt_encoder", "mask_decoder"),
            ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder"),
            ("enc", "prompts", "decoder"),
        ],
    )
    def test_a_dict_of_parts(
        self, tmp_path: Path, states: dict[str, State], base: Path, keys: tuple[str, ...]
    ) -> None:
        parts = self.parts(states, keys)
        flat = {f"{key}.{n}": t for key, part in parts.items() for n, t in part.items()}
        for number, content in enumerate(
            (
                parts,
                {"model_state_dict": parts, "epoch": 3, "optimizer": {"state": {}}},
                flat,
                {f"module.{name}": tensor for name, tensor in flat.items()},
            )
        ):
            path, out = tmp_path / f"{number}.pt", tmp_path / f"{number}-whole.pt"
            torch.save(content, path)
            found = inspect(path)
            assert found.dialect == "official", number
            assert not [name for name in found.extras if name in keys]
            convert(path, out, base=base)
            assert_completed(out, self.ROOTS)

    def test_parts_of_parts_and_tensors_beside_them(
        self, tmp_path: Path, states: dict[str, State], base: Path
    ) -> None:
        official = states["official"]
        content = {
            "image_encoder": {
                "trunk": below(official, "image_encoder.trunk"),
                "neck": below(official, "image_encoder.neck"),
            },
            "mask_decoder": below(official, "sam_mask_decoder"),
            "obj_ptr_proj": below(official, "obj_ptr_proj"),
            "no_mem_embed": official["no_mem_embed"],
            "head": {"weight": torch.ones(2)},
        }
        torch.save(content, tmp_path / "parts.pt")
        done = convert(tmp_path / "parts.pt", tmp_path / "whole.pt", base=base)
        found, own = torch.load(tmp_path / "whole.pt")["model"], state_dict()
        mine = ("image_encoder.", "sam_mask_decoder.", "obj_ptr_proj.", "no_mem_embed")
        other = state_dict(seed=1)
        assert all(
            torch.equal(t, (own if n.startswith(mine) else other)[n]) for n, t in found.items()
        )
        assert "left out, not part of the model: head" in done.notes

    def test_two_models_are_listed(self, tmp_path: Path, states: dict[str, State]) -> None:
        parts = self.parts(states, ("image_encoder", "prompt_encoder", "mask_decoder"))
        decoder = parts["mask_decoder"]
        flat = {f"{who}.{n}": t for who in ("student", "teacher") for n, t in decoder.items()}
        again = {name: dict(part) for name, part in parts.items()}  # torch.save keeps identities
        pair = {"a": decoder, "b": dict(decoder)}
        for content in ({"student": parts, "teacher": again}, flat, pair):
            torch.save(content, tmp_path / "two.pt")
            with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts") as caught:
                inspect(tmp_path / "two.pt")
            choices = re.findall(r"OUT, (\w+)=(.*?)\)`", str(caught.value.hint))
            assert len(choices) == 2
            for key, value in choices:
                options: dict[str, Any] = {key: value}
                assert "mask decoder" in inspect(tmp_path / "two.pt", **options).parts

    def test_averaged_parts_are_not_mixed_with_others(
        self, tmp_path: Path, states: dict[str, State]
    ) -> None:
        official = states["official"]
        content = {
            "encoder": below(official, "image_encoder"),
            "ema_decoder": below(official, "sam_mask_decoder"),
        }
        torch.save(content, tmp_path / "mixed.pt")
        with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts"):
            inspect(tmp_path / "mixed.pt")

    def test_a_part_beside_a_whole_model_is_listed(
        self, tmp_path: Path, states: dict[str, State]
    ) -> None:
        decoder = below(states["official"], "sam_mask_decoder")
        torch.save({"model": state_dict(), "decoder": decoder}, tmp_path / "both.pt")
        with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts"):
            inspect(tmp_path / "both.pt")
        assert validate(tmp_path / "both.pt", weights="model").ok


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_whole_model_may_have_parts_of_other_names(
    tmp_path: Path, states: dict[str, State], prefix: str
) -> None:
    """``mask_decoder.`` and ``prompt_encoder.`` hold official names here, not transformers'."""
    named = {prefix + n.removeprefix("sam_"): t for n, t in states["official"].items()}
    save_file(named, tmp_path / "named.safetensors")
    found = inspect(tmp_path / "named.safetensors")
    assert (found.dialect, found.config, found.parts) == ("official", "debug/sam2.1_debug", ())
    assert validate(tmp_path / "named.safetensors").ok
    convert(tmp_path / "named.safetensors", tmp_path / "plain.pt")
    assert_completed(tmp_path / "plain.pt", ("",))


def test_a_model_may_be_a_tree_of_modules(states: dict[str, State], tmp_path: Path) -> None:
    """What lies deep in the tree is not taken from the base, nor left out in silence."""
    state = states["official"]
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *modules, own = name.split(".")
        node = tree
        for module in modules:
            node = node.setdefault(module, {})
        node[own] = tensor
    source, other = tmp_path / "tree.pt", official_pt(tmp_path / "other.pt", zeros(state))
    torch.save({"params": tree, "epoch": 1}, source)
    assert (inspect(source).parts, inspect(source).exit_code) == ((), 0)
    convert(source, tmp_path / "out.pt", base=other)
    found = torch.load(tmp_path / "out.pt")["model"]
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_an_own_tensor_within_a_part_is_told(states: dict[str, State], tmp_path: Path) -> None:
    base = official_pt(tmp_path / "base.pt", states["official"])
    own = {**below(states["official"], "sam_mask_decoder"), "my_head.weight": torch.zeros(3)}
    torch.save(own, tmp_path / "own.pt")
    with pytest.raises(MismatchError, match="my_head") as caught:
        convert(tmp_path / "own.pt", tmp_path / "out.pt", base=base)
    assert "stands within a module of SAM 2" in str(caught.value.hint)


def test_one_model_has_the_names_of_all() -> None:
    """What ``names_of`` takes from one config holds for all: names differ in numbers alone."""
    for dialect in DIALECTS:
        for shipped in SHIPPED:
            keys = compile_keymap(dialect, shipped_tensors(shipped.name)).key
            assert {folded(name) for name in keys} <= names_of(dialect)


def test_ordinary_networks_are_no_parts(tmp_path: Path) -> None:
    layer = torch.nn.TransformerDecoderLayer(8, 2, 16)
    torch.save(layer.state_dict(), tmp_path / "other.pt")
    assert inspect(tmp_path / "other.pt").dialect is None
    vit = {
        "pos_embed": torch.ones(1, 4, 8),
        "patch_embed.proj.weight": torch.ones(8, 3, 4, 4),
        "blocks.0.norm1.weight": torch.ones(8),
    }
    torch.save(vit, tmp_path / "vit.pt")
    assert inspect(tmp_path / "vit.pt").dialect is None


class TestImageModels:
    """An image model stays one, unless a base or another dialect is asked for."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        convert(official_pt(tmp_path / "m.pt"), tmp_path / "image", to="hf-image")
        return tmp_path / "image"

    def test_a_folder_of_one_is_one(self, tmp_path: Path, image: Path) -> None:
        kept = {n: t for n, t in state_dict().items() if covers(HF_IMAGE, n)}
        official = official_pt(tmp_path / "official.pt", kept)
        for number, source in enumerate((image, official)):
            done = convert(source, tmp_path / str(number))
            assert done.dialect == "hf-image"
            assert "an image model, as it was" in " ".join(done.notes)
            weights = (tmp_path / str(number) / "model.safetensors").read_bytes()
            assert weights == (image / "model.safetensors").read_bytes()

    def test_a_batch_of_them(self, tmp_path: Path, image: Path) -> None:
        [item] = batch([str(image)], tmp_path / "out").items
        assert item.outcome == "converted"
        assert inspect(tmp_path / "out" / "image").dialect == "hf-image"

    def test_what_is_asked_for_is_done_or_refused(
        self, tmp_path: Path, image: Path, base: Path
    ) -> None:
        done = convert(image, tmp_path / "video", base=base)
        assert done.dialect == "hf-video"
        for target, options in (("v", {"to": "hf-video"}), ("v.pt", {})):
            with pytest.raises(RefusedError, match="an image model: 108 tensors") as caught:
                convert(image, tmp_path / target, **options)  # type: ignore[arg-type]
            hint = str(caught.value.hint)
            assert "`base=CHECKPOINT`" in hint
            assert "`to=hf-image`" in hint
        assert convert(image, tmp_path / "i.safetensors", to="hf-image").dialect == "hf-image"

    def test_a_model_that_lacks_some_of_its_memory_is_refused(self, tmp_path: Path) -> None:
        kept = {n: t for n, t in state_dict().items() if "memory_encoder" not in n}
        with pytest.raises(MismatchError, match="missing"):
            convert(official_pt(tmp_path / "some.pt", kept), tmp_path / "out")

    @pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
    def test_an_adapter_merged_into_one(self, tmp_path: Path, image: Path) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import Sam2Model

        model: Any = Sam2Model.from_pretrained(image)
        config = LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False)
        adapted = get_peft_model(model, config)
        adapted.save_pretrained(tmp_path / "lora")
        done = convert(tmp_path / "lora", tmp_path / "merged", base=image)
        assert done.dialect == "hf-image"
        merged = adapted.merge_and_unload().state_dict()
        found = Sam2Model.from_pretrained(tmp_path / "merged").state_dict()
        changed = [name for name in merged if name.endswith("qkv.weight")]
        assert changed
        before = Sam2Model.from_pretrained(image).state_dict()
        for name in changed:
            torch.testing.assert_close(found[name], merged[name])
            assert not torch.equal(found[name], before[name])


def test_notes_list_tensors_first_and_hide_none(tmp_path: Path) -> None:
    beside = dict.fromkeys(("epoch", "global_step", "a", "b", "c", "d", "e", "f", "g", "h"), 1)
    state = {f"model.{name}": tensor for name, tensor in state_dict().items()}
    heads = {f"heads.{i}.{end}": torch.ones(1) for i in range(12) for end in ("weight", "bias")}
    many = {f"net{i}.x{j}.w": torch.ones(1) for i in range(2) for j in "abcdefgh"}
    for extra, listed in (
        (heads, "heads.{0-11}.{bias,weight}"),
        ({"fc.weight": torch.ones(1)}, "fc.weight"),
        (many, "net{0,1}.xa.w, net{0,1}.xb.w, net{0,1}.xc.w"),
        ({**many, "last.weight": torch.ones(1)}, "net0 (8), net1 (8), last (1)"),
    ):
        torch.save({**beside, "state_dict": {**state, **extra}}, tmp_path / "m.pt")
        done = convert(tmp_path / "m.pt", tmp_path / "plain.pt", overwrite=True)
        [note] = [note for note in done.notes if "left out" in note]
        assert note.startswith(f"left out, not part of the model: {listed}")
        assert note.endswith("2 more that are no tensors")
        assert next(iter(inspect(tmp_path / "m.pt").extras)) in extra


SOME = {  # less than a part, with the full names: what programs leave that save what was trained
    "official": ("sam_mask_decoder.transformer.", "image_encoder.neck.", "obj_ptr_proj."),
    "hf-video": ("mask_decoder.transformer.", "vision_encoder.neck.", "object_pointer_proj."),
}


@pytest.mark.parametrize("wrapper", ["nothing", "a key", "DDP"])
@pytest.mark.parametrize("dialect", SOME)
def test_some_tensors_with_their_full_names(
    dialect: str, wrapper: str, states: dict[str, State], tmp_path: Path
) -> None:
    base = tmp_path / "base.pt"
    torch.save({"model": zeros(states["official"])}, base)
    for start in SOME[dialect]:
        some = {name: t for name, t in states[dialect].items() if name.startswith(start)}
        assert some, start
        torch.save(WRAPPED[wrapper](some), tmp_path / "some.pt")
        (part,) = inspect(tmp_path / "some.pt").parts
        assert part.startswith(f"tensors of {start.rstrip('.')}")
        convert(tmp_path / "some.pt", tmp_path / "whole.pt", base=base, overwrite=True)
        found = torch.load(tmp_path / "whole.pt")["model"]
        wanted = {"official": start, "hf-video": SOME["official"][SOME[dialect].index(start)]}
        for name, tensor in states["official"].items():
            trained = name.startswith(wanted[dialect])
            assert torch.equal(found[name], tensor if trained else torch.zeros_like(tensor)), name


def test_names_of_which_one_is_unknown_are_no_part_of_a_model(
    states: dict[str, State], tmp_path: Path
) -> None:
    some = {n: t for n, t in states["official"].items() if n.startswith("obj_ptr_proj.")}
    torch.save({**some, "own.weight": torch.ones(2)}, tmp_path / "some.pt")
    assert inspect(tmp_path / "some.pt").dialect is None
