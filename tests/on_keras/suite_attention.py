"""Attention of Keras models: by hand, against PyTorch with the same weights, and left as found."""

from typing import Any

import keras
import numpy as np
import pytest
from networks import L, drawn, samples

import chronocam as cc
from chronocam.engines.keras.engine import KerasEngine
from chronocam.errors import ModelError

REFUSED = {("mean", "gradeclip"), ("pool", "rollout")}
METHODS = ("legrad", "attentionrelevance", "gradientxattention", "rollout")
DIM, HEADS = 8, 2


class Block(L.Layer):
    """A block of a transformer, before whose parts the tokens are normalised."""

    def __init__(self, attention: Any, **options: Any) -> None:
        super().__init__(**options)
        self.norm1, self.norm2 = L.LayerNormalization(epsilon=1e-6), L.LayerNormalization(epsilon=1e-6)
        self.attention = attention
        self.up, self.down = L.Dense(12, activation="relu"), L.Dense(DIM)

    def call(self, x: Any) -> Any:
        h = self.norm1(x)
        x = x + self.attention(h, h)
        return x + self.down(self.up(self.norm2(x)))


class ClassToken(L.Layer):
    """A token before the patches, or instead of them."""

    def __init__(self, alone: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.alone = alone

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x: Any) -> Any:
        token = keras.ops.repeat(self.token, keras.ops.shape(x)[0], 0)
        return token if self.alone else keras.ops.concatenate([token, x], 1)


def heads(**options: Any) -> Any:
    return L.MultiHeadAttention(HEADS, DIM // HEADS, **options)


def vit(flat: bool, reads: str, attentions: Any = None, seed: int = 0) -> Any:
    """Blocks as layers, or `flat`: all their layers in the graph of the model.

    reads: what the head reads, `mean`, `token` or `pool`: what a query takes up of the tokens.
    """
    image = keras.Input((8, 8, 3))
    x = L.Reshape((16, DIM))(L.Conv2D(DIM, 2, 2, name="patches")(image))
    x = ClassToken(name="first")(x) if reads == "token" else x
    blocks = [
        Block(one, name=f"block{i}") for i, one in enumerate(attentions or [heads(dropout=0.5), heads()])
    ]
    for block in blocks:
        x = block.call(x) if flat else block(x)
    x = L.LayerNormalization(epsilon=1e-6, name="norm")(x)
    if reads == "pool":
        x = heads(name="pool")(ClassToken(True, name="query")(x), x)
    x = L.GlobalAveragePooling1D()(x) if reads == "mean" else x[:, 0]
    model = keras.Model(image, L.Dense(3, name="head")(x))
    model.blocks = blocks
    return drawn(model, seed)


def twin(model: Any) -> Any:
    """Return the same network in PyTorch, with `nn.MultiheadAttention`."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def array(x: Any) -> Any:
        return torch.from_numpy(keras.ops.convert_to_numpy(x).copy())

    def linear(layer: Any) -> Any:
        made = nn.Linear(*layer.kernel.shape)
        made.load_state_dict({"weight": array(layer.kernel).T, "bias": array(layer.bias)})
        return made

    def norm(layer: Any) -> Any:
        made = nn.LayerNorm(DIM, 1e-6)
        made.load_state_dict({"weight": array(layer.gamma), "bias": array(layer.beta)})
        return made

    def attention(layer: Any) -> Any:
        made = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        parts = (layer.query_dense, layer.key_dense, layer.value_dense)
        made.load_state_dict(
            {
                "in_proj_weight": torch.cat([array(one.kernel).reshape(DIM, -1).T for one in parts]),
                "in_proj_bias": torch.cat([array(one.bias).flatten() for one in parts]),
                "out_proj.weight": array(layer.output_dense.kernel).reshape(-1, DIM).T,
                "out_proj.bias": array(layer.output_dense.bias),
            }
        )
        return made

    class Twin(nn.Module):
        def __init__(self, block: Any) -> None:
            super().__init__()
            self.norm1, self.norm2 = norm(block.norm1), norm(block.norm2)
            self.attention, self.up, self.down = (
                attention(block.attention),
                linear(block.up),
                linear(block.down),
            )

        def forward(self, x: Any) -> Any:
            h = self.norm1(x)
            x = x + self.attention(h, h, h, need_weights=False)[0]
            return x + self.down(self.up(self.norm2(x)).relu())

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = model.get_layer("patches")
            self.patches = nn.Conv2d(3, DIM, 2, 2)
            weights = {"weight": array(conv.kernel).permute(3, 2, 0, 1), "bias": array(conv.bias)}
            self.patches.load_state_dict(weights)
            self.blocks = nn.ModuleList(map(Twin, model.blocks))
            self.norm, self.head = norm(model.get_layer("norm")), linear(model.get_layer("head"))
            names = [layer.name for layer in model.layers]
            self.token = array(model.get_layer("first").token) if "first" in names else None
            self.query = array(model.get_layer("query").token) if "query" in names else None
            self.pool = attention(model.get_layer("pool")) if "pool" in names else None

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).mT
            if self.token is not None:
                x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
            for block in self.blocks:
                x = block(x)
            x = self.norm(x)
            if self.pool is not None:
                x = self.pool(self.query.expand(len(x), -1, -1), x, x, need_weights=False)[0]
            return self.head(x.mean(1) if self.token is None else x[:, 0])

    return Net().eval()


@pytest.mark.parametrize(("flat", "reads"), [(True, "mean"), (False, "token"), (True, "pool")])
def test_maps_are_those_of_the_same_network_in_pytorch(flat: bool, reads: str) -> None:
    model, x = vit(flat, reads), samples((8, 8, 3))
    methods = [method for method in (*METHODS, "gradeclip") if (reads, method) not in REFUSED]
    ours = cc.explain(model, x, [0, 2], methods=methods)
    torch = pytest.importorskip("torch")
    other = cc.explain(twin(model), torch.from_numpy(np.moveaxis(x, -1, 1).copy()), [0, 2], methods=methods)
    for name in methods:
        expected = other[name].maps
        assert expected.shape == (2, 1, 4, 4)
        np.testing.assert_allclose(
            ours[name].maps, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name
        )


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def parts_of(layer: Any, x: Any) -> Any:
    """Return queries, keys, values, weights `(batch, query, key)` and the joining matrix of one head."""
    dense = (layer.query_dense, layer.key_dense, layer.value_dense)
    weights = [[keras.ops.convert_to_numpy(w).astype(float) for w in one.weights] for one in dense]
    q, k, v = (x @ kernel[:, 0] + bias[0] for kernel, bias in weights)
    a = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    return q, k, v, a, keras.ops.convert_to_numpy(layer.output_dense.kernel)[0].astype(float)


def one_head(token: bool) -> Any:
    image = keras.Input((4, 4, 3))
    x = L.Reshape((4, DIM))(L.Conv2D(DIM, 2, 2, name="patches")(image))
    x = ClassToken(name="tokens")(x) if token else L.Identity(name="tokens")(x)
    y = x + L.MultiHeadAttention(1, 5, name="attention")(x, x)
    y = y[:, 0] if token else L.GlobalAveragePooling1D()(y)
    return drawn(keras.Model(image, L.Dense(3, name="head")(y)))


@pytest.mark.parametrize("token", [False, True])
def test_one_head_is_as_by_hand(token: bool) -> None:
    model, images = one_head(token), samples((4, 4, 3))
    tokens = keras.Model(model.input, model.get_layer("tokens").output).predict(images, verbose=0)
    q, k, v, a, join = parts_of(model.get_layer("attention"), tokens.astype(float))
    g = join @ keras.ops.convert_to_numpy(model.get_layer("head").kernel)[:, 1]  # at each query that is read
    count = tokens.shape[1]
    read = np.eye(count)[0] if token else np.full(count, 1 / count)
    along = (v @ g)[:, None] * read[:, None]  # ∂score/∂A_ij
    mixed = np.maximum(along * a, 0)
    rolled = 0.5 * (a + np.eye(count))
    expected = {
        # The tokens are averaged, so that a class token has as much of each query's output as others.
        "legrad": np.maximum(v @ g, 0) / count,
        "attentionrelevance": read + read @ mixed,
        "gradientxattention": read @ mixed,
        "rollout": read @ rolled,
    }
    if token:
        joined, asked = k @ join, q[:, :1] @ join
        sizes = np.linalg.norm(joined, axis=-1) * np.linalg.norm(asked, axis=-1)
        cosine = (joined @ asked.swapaxes(1, 2))[..., 0] / sizes
        low, high = (f(cosine[:, 1:], axis=1, keepdims=True) for f in (np.min, np.max))
        expected["gradeclip"] = np.maximum((v @ g) * (cosine - low) / (high - low), 0)
    found = cc.explain(model, images, 1, methods=tuple(expected))
    for name, row in expected.items():
        maps = found[name].maps[:, 0].reshape(2, -1)
        np.testing.assert_allclose(maps, row[:, -4:], rtol=1e-4, atol=1e-6, err_msg=name)


class AroundGrid(L.Layer):
    """Attention over both axes of a grid, whose rows are samples, or over one of them."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.attention = heads(attention_axes=axes)

    def call(self, x: Any) -> Any:
        grid = keras.ops.reshape(x, (-1, 4, 4, DIM))
        return keras.ops.reshape(self.attention(grid, grid), (-1, 16, DIM))


def test_each_kind_of_attention_returns_weights_times_values() -> None:
    image = keras.Input((8, 8, 3))
    x = L.Reshape((16, DIM))(L.Conv2D(DIM, 2, 2)(image))
    x = x + heads(dropout=0.5)(x, x, use_causal_mask=True)
    x = x + L.GroupQueryAttention(DIM, 4, 2)(x, x, use_causal_mask=True)
    x = x + L.Attention(use_scale=True, score_mode="concat")([x, x])
    x = x + L.AdditiveAttention()([x, x])
    x = x + L.Attention()([x, x], use_causal_mask=True)
    for axes in ((1, 2), (2,)):
        x = x + AroundGrid(*axes)(x)
    model = drawn(keras.Model(image, L.Dense(3)(x[:, -1])))
    engine, images = KerasEngine(model), samples((8, 8, 3))
    request = cc.engines.Request(attended=True, attentions=True)
    recording = engine.record(engine.adapt(images), lambda result: result.logits()[:, :1], request)
    rows = [2, 2, 2, 2, 2, 2, 8]
    assert [one.shape[0] for one in recording.attended] == rows
    assert [one.sources for one in recording.attended] == [((), ()), *(((i,), (i,)) for i in range(6))]
    for number, one in enumerate(recording.attended):
        weights, value = (np.asarray(keras.ops.convert_to_numpy(x)) for x in (one.weigh(), one.value))
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        assert (one.query is None) == (number in (2, 3))
        if number in (0, 1, 4):
            assert not np.triu(weights, 1).any()  # no token sees a later one
        gradients = keras.ops.convert_to_numpy(one.gradients)
        assert gradients.shape == (1, *weights.shape[:3], value.shape[-1])
        mean = keras.ops.convert_to_numpy(recording.attentions[number])
        np.testing.assert_allclose(mean, weights.mean(1), rtol=1e-6)
    outputs = [layer.output for layer in model.layers if isinstance(layer, L.Attention)]
    given = keras.Model(model.input, outputs).predict(images, verbose=0)
    for one, output in zip(recording.attended[2:5], given, strict=True):
        mixed = keras.ops.matmul(one.weigh(), one.value)[:, 0]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(mixed), output, rtol=1e-4, atol=1e-5)


def test_a_map_is_of_its_sample_alone_and_the_model_left_as_it_was() -> None:
    model, x = vit(False, "token"), samples((8, 8, 3))
    attention = model.blocks[0].attention
    before = dict(vars(attention)), model.predict(x, verbose=0)
    for method in (cc.LeGrad, cc.AttentionRelevance):
        both, each = (method(model, batch_size=size).explain(x, 1).maps for size in (2, 1))
        np.testing.assert_allclose(both, each, rtol=1e-4, atol=1e-6)
    assert vars(attention) == before[0]
    np.testing.assert_array_equal(model.predict(x, verbose=0), before[1])


def test_what_joins_the_tokens_after_the_last_block_is_of_the_same_sample() -> None:
    image = keras.Input((8, 8, 3))
    first = x = L.Reshape((16, DIM))(L.Conv2D(DIM, 2, 2, name="patches")(image))
    for _ in range(2):
        x = Block(heads())(x)
    pooled = L.GlobalAveragePooling1D()(x) * L.GlobalAveragePooling1D()(first)
    model, x = drawn(keras.Model(image, L.Dense(3)(pooled))), samples((8, 8, 3), 3)
    together, alone = (cc.LeGrad(model, batch_size=size).explain(x, [0, 1, 2]).maps for size in (3, 1))
    assert together.max() > 0
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6 * together.max())


class ByHand(L.Layer):
    def call(self, x: Any) -> Any:
        scores = keras.ops.matmul(x, keras.ops.swapaxes(x, 1, 2))
        return keras.ops.matmul(keras.ops.softmax(scores), x)


class Silent(L.MultiHeadAttention):
    def _compute_attention(self, query: Any, key: Any, value: Any, *args: Any, **options: Any) -> Any:
        return super()._compute_attention(query, key, value)[0], None


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        (ByHand(), "runs no attention layer of Keras"),
        (Silent(HEADS, 4), "(Silent) computes attention in its own"),
    ],
)
def test_attention_that_cannot_be_read_is_refused(attention: Any, words: str) -> None:
    image = keras.Input((8, 8, 3))
    x = L.Reshape((16, DIM))(L.Conv2D(DIM, 2, 2)(image))
    x = x + (attention(x) if isinstance(attention, ByHand) else attention(x, x))
    model = drawn(keras.Model(image, L.Dense(3)(L.GlobalAveragePooling1D()(x))))
    with pytest.raises(ModelError) as error:
        cc.AttentionRelevance(model).explain(samples((8, 8, 3)), 1)
    assert words in str(error.value)
    assert "such as gradcam" in str(error.value)
