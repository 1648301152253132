// The inputs of the decoder, by name: data, shape and type.
export function inputsOf({ points, box }, side) {
  const count = points.length;
  return {
    input_points: {
      type: "float32",
      data: Float32Array.from(points.flatMap(({ x, y }) => [x * side, y * side])),
      shape: [1, 1, count, 2],
    },
    input_labels: {
      type: "int64",
      data: BigInt64Array.from(points.map(({ label }) => BigInt(label))),
      shape: [1, 1, count],
    },
    input_boxes: {
      type: "float32",
      data: Float32Array.from(box ?? [], (edge) => edge * side),
      shape: [1, box ? 1 : 0, 4],
    },
  };
}
