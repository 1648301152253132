"""Rules compile into bijections, and every single fault of a file is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sam21convert.config.registry import SHIPPED, shipped_tensors
from sam21convert.dialects import DIALECTS, HF_IMAGE, HF_VIDEO, OFFICIAL
from sam21convert.dialects.keymap import KeyMap, RuleError, compile_keymap, target_name
from sam21convert.dialects.rules import Concat, Dialect, Rename, Tied
from sam21convert.io.tensor import Inventory, TensorSpec

SPEC = TensorSpec("F32", (2, 3))
CONFIGS = [shipped.name for shipped in SHIPPED]
NAMINGS = [dialect for dialect in DIALECTS if not dialect.file]  # the others share their names


def dialect(*rules: Rename | Concat, covers: tuple[str, ...] = ("",)) -> Dialect:
    return Dialect("test", "for a test", covers, rules)


def names(rules: Dialect, *canonical: str) -> list[str]:
    return [entry.key for entry in compile_keymap(rules, dict.fromkeys(canonical, SPEC)).entries]


class TestRules:
    def test_the_segments_that_follow_are_kept(self) -> None:
        assert names(dialect(Rename("a.b", "x")), "a.b.weight", "a.b") == ["x.weight", "x"]

    def test_digits_are_carried_over(self) -> None:
        rule = Rename("a.{i}.norm{n}", "b.{n}.layer{i}")
        assert names(dialect(rule), "a.3.norm12.bias") == ["b.12.layer3.bias"]

    def test_a_template_matches_whole_segments(self) -> None:
        with pytest.raises(RuleError, match="no rule for a.bc"):
            names(dialect(Rename("a.b", "x")), "a.bc")

    def test_more_segments_win_then_more_literal_characters(self) -> None:
        rules = (Rename("a", "x"), Rename("a.{i}", "y.{i}"), Rename("a.0", "z"))
        for order in (rules, rules[::-1]):
            assert names(dialect(*order), "a.0.w", "a.1.w", "a.b") == ["z.w", "y.1.w", "x.b"]

    def test_one_rule_applies_and_rules_do_not_chain(self) -> None:
        rules = (Rename("layers.1", "layers.0"), Rename("layers.0", "first"))
        assert names(dialect(*rules), "layers.1", "layers.0") == ["layers.0", "first"]

    def test_a_tie_is_an_error(self) -> None:
        with pytest.raises(RuleError, match="fit equally well"):
            names(dialect(Rename("a.{i}", "x"), Rename("a.{j}", "y")), "a.1")

    def test_two_tensors_of_one_name_are_an_error(self) -> None:
        with pytest.raises(RuleError, match="both become x"):
            names(dialect(Rename("a", "x"), Rename("b", "x")), "a", "b")

    def test_concat_joins_along_the_first_axis(self) -> None:
        rules = dialect(Concat(("p.1", "p.0"), "p"), Rename("a", "a"))
        keymap = compile_keymap(rules, {"p.0": SPEC, "a": SPEC, "p.1": SPEC})
        assert keymap.key["p"] == TensorSpec("F32", (4, 3))
        assert {entry.key: entry.canonical for entry in keymap.entries}["p"] == ("p.1", "p.0")

    def test_what_is_not_covered_is_dropped(self) -> None:
        keymap = compile_keymap(
            dialect(Rename("a", "a"), covers=("a",)), {"a.b": SPEC, "ab": SPEC, "c": SPEC}
        )
        assert keymap.dropped == ("ab", "c")

    def test_a_tied_copy_must_repeat_an_existing_key(self) -> None:
        rules = Dialect("test", "", ("",), (Rename("a", "x"),), (Tied("y", of="z"),))
        with pytest.raises(RuleError, match="y cannot repeat z"):
            compile_keymap(rules, {"a": SPEC})


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rules", NAMINGS, ids=lambda rules: rules.name)
class TestEveryDialectAndConfig:
    def test_the_map_is_a_bijection(self, rules: Dialect, config: str) -> None:
        canonical = shipped_tensors(config)
        keymap = compile_keymap(rules, canonical)
        reached = [name for entry in keymap.entries for name in entry.canonical]
        assert sorted([*reached, *keymap.dropped]) == sorted(canonical)
        assert len({entry.key for entry in keymap.entries}) == len(keymap.entries)
        assert keymap.fit(keymap.key).faults == 0

    def test_the_order_of_the_rules_does_not_matter(self, rules: Dialect, config: str) -> None:
        reversed_rules = replace(rules, rules=rules.rules[::-1])
        canonical = shipped_tensors(config)
        assert compile_keymap(rules, canonical).key == compile_keymap(reversed_rules, canonical).key

    def test_every_fault_of_a_single_tensor_is_caught_and_named(
        self, rules: Dialect, config: str
    ) -> None:
        keymap = compile_keymap(rules, shipped_tensors(config))
        tied = {*keymap.tied, *keymap.tied.values()}
        for name, kind, found in single_faults(keymap):
            fit = keymap.fit(found)
            if kind == "reshaped":
                assert [fault[0] for fault in fit.mismatched] == [name]
                continue
            assert fit.unexpected == ((f"{name}_",) if kind == "renamed" else ())
            missing = () if name in keymap.constants or name in tied else (name,)
            assert (fit.missing, name in fit.missing_copies) == (missing, name in tied)


def single_faults(keymap: KeyMap) -> Iterator[tuple[str, str, Inventory]]:
    """Reshape, drop and rename every tensor, one at a time: (name, kind of fault, inventory)."""
    found = dict(keymap.key)
    for name, spec in keymap.key.items():
        found[name] = TensorSpec(spec.dtype, (*spec.shape, 1))
        yield name, "reshaped", found
        del found[name]
        yield name, "dropped", found
        found[f"{name}_"] = spec
        yield name, "renamed", found
        del found[f"{name}_"]
        found[name] = spec


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rules", [OFFICIAL, HF_VIDEO], ids=lambda rules: rules.name)
def test_four_names_of_gamma_are_read(rules: Dialect, config: str) -> None:
    keymap = compile_keymap(rules, shipped_tensors(config))
    own = target_name(rules, "memory_encoder.fuser.layers.0.gamma")
    assert own is not None
    for ending in ("gamma", "scale", "weight", "g_weight"):
        alias = own.rpartition(".")[0] + f".{ending}"
        found = {alias if name == own else name: spec for name, spec in keymap.key.items()}
        fit = keymap.fit(found)
        assert fit.faults == 0
        assert fit.names[own] == alias


def test_a_key_and_its_alias_at_once_are_one_too_many() -> None:
    keymap = compile_keymap(OFFICIAL, shipped_tensors(CONFIGS[0]))
    extra = "memory_encoder.fuser.layers.0.weight"
    found = {**keymap.key, extra: TensorSpec("F32", (256,))}
    assert keymap.fit(found).unexpected == (extra,)


@pytest.mark.parametrize("rules", [HF_VIDEO, HF_IMAGE], ids=lambda rules: rules.name)
def test_either_copy_of_the_positional_embedding_is_enough(rules: Dialect) -> None:
    keymap = compile_keymap(rules, shipped_tensors(CONFIGS[0]))
    [(copy, of)] = keymap.tied.items()
    assert keymap.fit(keymap.key).repeats == ((copy, of),)
    for absent in (copy, of):
        found = {name: spec for name, spec in keymap.key.items() if name != absent}
        fit = keymap.fit(found)
        assert (fit.faults, fit.missing_copies, fit.repeats) == (0, (absent,), ())
    neither = {name: spec for name, spec in keymap.key.items() if name not in (copy, of)}
    assert set(keymap.fit(neither).missing) == {copy, of}


def test_an_integer_tensor_is_of_the_wrong_type() -> None:
    keymap = compile_keymap(OFFICIAL, shipped_tensors(CONFIGS[0]))
    found = {**keymap.key, "no_mem_embed": TensorSpec("I64", (1, 1, 256))}
    assert keymap.fit(found).wrong_type == (("no_mem_embed", TensorSpec("I64", (1, 1, 256))),)


@pytest.mark.parametrize(
    ("config", "dropped"), [("sam2.1/sam2.1_hiera_t", 160), ("sam2/sam2_hiera_t", 157)]
)
def test_an_image_model_has_no_memory(config: str, dropped: int) -> None:
    assert len(compile_keymap(HF_IMAGE, shipped_tensors(config)).dropped) == dropped
