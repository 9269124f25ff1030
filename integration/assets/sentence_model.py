#!/usr/bin/env python3
"""Writes all-MiniLM-L6-v2 as ONNX Runtime runs it best: from the official 32-bit weights, in small memory.

Why it exists: exports that can be fetched leave it to the runtime to find what can be fused, and are 170 MB of 32-bit numbers once
they are loaded. What is written here says each step as the runtime's own fused operator. The table of words has 8 bits a number
and a scale a row, and only rows that are asked for become 32-bit numbers. The other weights are rounded in the same way, a row an
output, and written as 32-bit numbers, for the runtime maps those from the file instead of unpacking them.
In:  model.safetensors, as published.
Out: model.onnx (the graph) and model.data (tables and weights) in a folder.
Promises: the same bytes on every machine, by Python alone; the graph holds the checksum of the data, so that it names both.
Deliberately absent: 8-bit arithmetic. By MatMulNBits it took 1.3 to 1.5 times the CPU without VNNI, and was less exact. Weights that
     are not rounded: they moved verdicts by no more than the noise, but the detectors' constants were fitted with rounded ones.

Usage: sentence_model.py MODEL.SAFETENSORS FOLDER
"""
import array, hashlib, json, pathlib, struct, sys

LAYERS, HEADS, EPSILON = 6, 12, 1e-12
FLOAT, INT8, INT32, INT64 = 1, 3, 6, 7  # as ONNX numbers its types
FUSED = "com.microsoft"
OUTSIDE_BYTES = 1 << 16  # tensors from this size on are in model.data
ALIGNED = 4096  # to a page, where each tensor in it begins


# Protocol buffers, as far as onnx.proto needs them. A message is its fields one after the other.


def varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field(number, value):
    """One field: an int as varint, a float as four bytes, text and messages with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields):
    return b"".join(field(number, value) for number, value in fields)


class Graph:
    """Nodes and tensors as they are added; small tensors inside, large ones in `outside`."""

    def __init__(self, outside):
        self.nodes, self.tensors, self.outside = [], [], outside

    def tensor(self, name, kind, dims, raw):
        parts = [(1, side) for side in dims] + [(2, kind), (8, name)]
        if len(raw) < OUTSIDE_BYTES:
            parts.append((9, raw))
        else:
            self.outside.write(bytes(-self.outside.tell() % ALIGNED))
            where = {"location": "model.data", "offset": self.outside.tell(), "length": len(raw)}
            self.outside.write(raw)
            where["checksum"] = hashlib.sha1(raw).hexdigest()
            parts += [(13, message((1, key), (2, str(value)))) for key, value in where.items()] + [(14, 1)]
        self.tensors.append(message(*parts))
        return name

    def node(self, operator, inputs, output, domain="", **attributes):
        parts = [(1, name) for name in inputs] + [(2, output), (4, operator)]
        for name, value in attributes.items():
            typed = [(2, value), (20, 1)] if isinstance(value, float) else [(3, value & (1 << 64) - 1), (20, 2)]
            parts.append((5, message((1, name), *typed)))
        self.nodes.append(message(*parts, (7, domain)))
        return output

    def model(self, inputs, output):
        """The whole ModelProto; `inputs` and `output` are (name, type, sides)."""

        def value(name, kind, sides):
            shape = message(*((1, message((1 if isinstance(side, int) else 2, side))) for side in sides))
            return message((1, name), (2, message((1, message((1, kind), (2, shape))))))

        graph = message(*((1, node) for node in self.nodes), (2, "all-MiniLM-L6-v2"), *((5, tensor) for tensor in self.tensors),
                        *((11, value(*each)) for each in inputs), (12, value(*output)))
        return message((1, 10), (2, "harbinger"), (7, graph), (8, message((1, ""), (2, 17))), (8, message((1, FUSED), (2, 1))))


def weights(path):
    """The tensors of a .safetensors file by name, each as (numbers, rows, columns): a length, a JSON header, the numbers."""
    raw = path.read_bytes()
    size = struct.unpack_from("<Q", raw)[0]
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            *rows, columns = entry["shape"]
            tensors[name] = (array.array("f", raw[start:end]), *rows, columns)
    return tensors


def quantised(numbers, columns):
    """Each row as whole numbers from -127 to 127 and a scale: (the numbers, the scales)."""
    values, scales = array.array("b"), array.array("f")
    for start in range(0, len(numbers), columns):
        row = numbers[start : start + columns]
        scales.append(max(map(abs, row)) / 127 or 1.0)
        scale = scales[-1]  # as the 32-bit number it has become
        values.extend([round(number / scale) for number in row])
    return values, scales


def build(w, outside):
    """BERT (Devlin et al., 2018) in evaluation, from token numbers to a vector a token."""
    graph = Graph(outside)

    def vector(source):
        numbers, columns = w[source]
        return graph.tensor(source, FLOAT, (columns,), numbers.tobytes())

    def product(inputs, source):
        numbers, rows, columns = w[source + ".weight"]
        values, scales = quantised(numbers, columns)
        rounded = array.array("f", [value * scales[place // columns] for place, value in enumerate(values)])
        turned = b"".join(rounded[column::columns].tobytes() for column in range(columns))
        graph.tensor(source + ".weight", FLOAT, (columns, rows), turned)
        return graph.node("MatMul", [inputs, source + ".weight"], source)

    def added_and_normalised(new, old, bias, name, output):
        scale, shift = vector(name + ".weight"), vector(name + ".bias")
        return graph.node("SkipLayerNormalization", [new, old, scale, shift, vector(bias + ".bias")], output, FUSED, epsilon=EPSILON)

    e = "embeddings."
    numbers, rows, columns = w[e + "word_embeddings.weight"]
    values, scales = quantised(numbers, columns)
    graph.tensor("words.values", INT8, (rows, columns), values.tobytes())
    graph.tensor("words.scales", FLOAT, (rows, 1), scales.tobytes())
    graph.node("Gather", ["words.values", "input_ids"], "word.values")
    graph.node("Cast", ["word.values"], "word.numbers", to=FLOAT)
    graph.node("Gather", ["words.scales", "input_ids"], "word.scales")
    graph.node("Mul", ["word.numbers", "word.scales"], "word")
    # Every token is of the first type, as in all texts that are no pairs, so that its vector can be in the places'.
    numbers, rows, columns = w[e + "position_embeddings.weight"]
    first_type = w[e + "token_type_embeddings.weight"][0]
    places = array.array("f", (number + first_type[place % columns] for place, number in enumerate(numbers)))
    graph.tensor("places", FLOAT, (rows, columns), places.tobytes())
    graph.tensor("zero", INT64, (), struct.pack("<q", 0))
    graph.tensor("one", INT64, (), struct.pack("<q", 1))
    graph.node("Shape", ["input_ids"], "sides")
    graph.node("Gather", ["sides", "one"], "length")
    graph.node("Range", ["zero", "length", "one"], "numbers")
    graph.node("Gather", ["places", "numbers"], "place")
    graph.node("Add", ["word", "place"], "embedded")
    normal = [vector(e + "LayerNorm.weight"), vector(e + "LayerNorm.bias")]
    x = graph.node("LayerNormalization", ["embedded", *normal], "layer.0", axis=-1, epsilon=EPSILON)
    mask = graph.node("Cast", ["attention_mask"], "mask", to=INT32)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}."
        parts = [f"{layer}attention.self.{part}" for part in ("query", "key", "value")]
        biases = b"".join(w[part + ".bias"][0].tobytes() for part in parts)
        graph.tensor(layer + "biases", FLOAT, (len(biases) // 4,), biases)
        projected = [product(x, part) for part in parts]
        attended = graph.node("MultiHeadAttention", [*projected, layer + "biases", mask], layer + "attended", FUSED, num_heads=HEADS)
        out = layer + "attention.output"
        x = added_and_normalised(product(attended, out + ".dense"), x, out + ".dense", out + ".LayerNorm", layer + "between")
        inner = layer + "intermediate.dense"
        inner = graph.node("BiasGelu", [product(x, inner), vector(inner + ".bias")], layer + "inner", FUSED)
        out, name = layer + "output", "last_hidden_state" if number == LAYERS - 1 else f"layer.{number + 1}"
        x = added_and_normalised(product(inner, out + ".dense"), x, out + ".dense", out + ".LayerNorm", name)
    ids = [(name, INT64, ("texts", "tokens")) for name in ("input_ids", "attention_mask")]
    return graph.model(ids, (x, FLOAT, ("texts", "tokens", 384)))


def write(source, folder):
    """Writes both files, the graph last."""
    with open(folder / "model.data", "wb") as outside:
        graph = build(weights(source), outside)
    (folder / "model.onnx").write_bytes(graph)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
