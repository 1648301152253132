"""Write a graph as an ONNX file, and the same with smaller numbers."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from ..errors import UsageError
from ..io.onnx import CONSTANT, FP32, PREFIX
from ..packages import onnxruntime, titled
from .graphs import Graph

_SAME_TYPE = ("Reshape", "Transpose")  # what comes out of them has the type of what goes in
_FOLDED = 512 * 512  # numbers of a constant, as large as onnxscript lets the folded ones become
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root")


def export(graph: Graph) -> Any:
    """Make a program of a graph, whose initialisers have the names of the model's tensors.

    The exporter's own optimisation is left out: it folds weights together, and then they could not
    be told apart. Runtimes do the same when they load a file.

    Args:
        graph: The graph, in evaluation mode.

    Returns:
        A ``torch.onnx.ONNXProgram``.

    Raises:
        UsageError: If the installed version of torch cannot export it.
    """
    try:
        with torch.no_grad(), _quietly(), _without_collecting():
            program = _translated(graph, _captured(graph))
    except Exception as error:  # whatever the exporter raises, its text fills a screen
        raise UsageError(
            f"{titled('torch')}: cannot export {graph.file} with {titled('onnxscript')}: "
            f"{type(error).__name__}",
            hint="install the newest torch and onnxscript",
        ) from error
    _tidy(program.model, graph)
    return program


def _captured(graph: Graph) -> ExportedProgram:
    """Trace a graph, in operators that the exporter knows.

    ``.to`` and ``.float`` are the only ones of the model that it would have to take apart.
    """
    free = tuple(dict.fromkeys(one.axes, Dim.AUTO) for one in graph.inputs)
    program = torch.export.export(graph, graph.example(), dynamic_shapes=free, strict=False)
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.to.dtype:
            value, kind = node.args[:2]
            same = value.meta["val"].dtype is kind
            node.target = torch.ops.aten.alias.default if same else torch.ops.aten._to_copy.default
            node.args, node.kwargs = (value,), {} if same else {"dtype": kind}
    return program


def _translated(graph: Graph, program: ExportedProgram) -> Any:
    """Turn operators of torch into those of ONNX.

    The exporter first takes operators apart that it does not know, for which it traces the program
    two more times: half of the time of an export. So it is given nothing to do there, and only if
    that fails, with a version that knows fewer operators, it does the same.
    """
    from .translations import TRANSLATIONS

    def translated() -> Any:
        return torch.onnx.export(
            program,
            dynamo=True,
            external_data=False,
            input_names=[one.name for one in graph.inputs],
            output_names=[one.name for one in graph.outputs],
            optimize=False,
            verbose=False,
            custom_translation_table=TRANSLATIONS,
        )

    program.run_decompositions = lambda *_: program
    try:
        return translated()
    except Exception:  # whatever the exporter raises
        del program.run_decompositions
        return translated()


def _tidy(model: Any, graph: Graph) -> None:
    """Name free axes, and drop what the exporter notes about the program that it came from."""
    from onnx_ir import SymbolicDim

    for value, stated in zip(
        (*model.graph.inputs, *model.graph.outputs), (*graph.inputs, *graph.outputs), strict=True
    ):
        for axis, name in stated.axes.items():
            value.shape[axis] = SymbolicDim(name)
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
        if node.op_type == "CastLike":
            _name_type(node)
    for node in [*model.graph]:
        _spell_plainly(node)
    for name, value in [*model.graph.initializers.items()]:
        value.metadata_props.clear()
        if name not in graph.weights:
            value.name = f"{CONSTANT}{name}"


def _name_type(node: Any) -> None:
    """Cast to the type by its name: onnxruntime warns of each cast that is by example."""
    from onnx_ir import AttrInt64

    if (wanted := _type_of(node.inputs[1])) is not None:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = AttrInt64("to", wanted.value)


def _spell_plainly(node: Any) -> None:
    """Write a constant, or the cast of one, as a tensor of its type.

    Other programs know no other spelling: OnnxSlim takes lists of floats for doubles, inference of
    shapes by onnxruntime stops at lists of integers, and onnxconverter-common turns what is cast
    into float16, but not the cast.
    """
    from onnx_ir import AttrTensor, DataType, tensor
    from onnx_ir.convenience import get_const_tensor

    constant = node.inputs[0].producer() if node.op_type == "Cast" else node
    if constant is None or constant.op_type != "Constant":
        return
    value = constant.outputs[0]
    held = get_const_tensor(value)
    if held is None:
        return
    numbers = held.numpy()
    if node.op_type == "Cast":
        numbers = numbers.astype(DataType(node.attributes["to"].value).numpy())
    node.op_type = "Constant"
    node.resize_inputs(0)
    node.attributes.clear()
    node.attributes["value"] = AttrTensor("value", tensor(numbers))
    if constant is not node and not value.uses():
        constant.graph.remove(constant, safe=True)


def _type_of(value: Any) -> Any:
    """The type of a value; the exporter does not note that of all; None if it cannot be told."""
    maker = value.producer()
    if value.dtype is not None or maker is None:
        return value.dtype
    if maker.op_type in _SAME_TYPE:
        return _type_of(maker.inputs[0])
    held = maker.attributes.get("value") if maker.op_type == "Constant" else None
    return None if held is None else held.as_tensor().dtype


def save(program: Any, path: Path, variant: str, metadata: Mapping[str, str]) -> None:
    """Write a program to a file.

    Args:
        program: Of :func:`export`. Its constants are folded in place for any variant but ``fp32``,
            which must be written first.
        path: The file.
        variant: A key of ``VARIANTS``.
        metadata: What else the file says about itself.
    """
    import onnx

    if variant == FP32:
        model = program.model_proto
    else:
        from onnx_ir.passes.common import RemoveUnusedNodesPass
        from onnxscript.optimizer import fold_constants

        with _quietly():
            # Its full optimisation takes ten times as long.
            fold_constants(program.model, input_size_limit=_FOLDED)
            RemoveUnusedNodesPass()(program.model)  # onnxruntime warns of each
            model = _half(program.model_proto) if variant == "fp16" else _bytes(program.model_proto)
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model, {f"{PREFIX}{key}": value for key, value in {**metadata, "variant": variant}.items()}
    )
    path.write_bytes(model.SerializeToString(deterministic=True))


def _half(model: Any) -> Any:
    """Compute in float16; what goes in and comes out stays float32."""
    onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def _bytes(model: Any) -> Any:
    """Store weights of matrix products as bytes.

    Unsigned, because products of signed bytes saturate on processors without VNNI.
    """
    from tempfile import TemporaryDirectory

    import onnx

    onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Shapes within the graph are those of before it was optimised, over which onnxruntime stumbles
    # up to 1.31; it infers them anew.
    del model.graph.value_info[:]
    constants = {one.name for one in model.graph.initializer}
    # What a runtime computes once from constants is no product that it takes again and again.
    once = [node.name for node in model.graph.node if {*node.input} <= constants]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "quantised.onnx"
        quantize_dynamic(model, file, weight_type=QuantType.QUInt8, nodes_to_exclude=once)
        return onnx.load(str(file))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what exporters print and warn about from the user: the files are tried afterwards."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Do not search for garbage: a trace makes millions of objects, and keeps nearly all."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
