"""Networks of keras.applications with other classes, sizes and precisions.

What is built here loads anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import keras

from chronocam.errors import InputError, ModelError, first_line
from chronocam.jsonable import Json
from chronocam.models.sources.keras_applications import builder_of
from chronocam.models.specs import Model, resolve

Layer: TypeAlias = Any
"""A layer of Keras, which ships no types."""

_MOMENTUM: Final = 0.9


def builder(spec: str) -> Callable[..., Model]:
    """Return the function of keras.applications that `keras:NAME` means.

    Raises ModelError for an unknown name.
    """
    return builder_of(resolve(spec)[1])


def image_net(spec: str, classes: int, size: int | None = None) -> Model:
    """Build one of Keras' classifiers with random weights and `classes` outputs, logits.

    All but its last layer is as Keras has it: VGG keeps its other fully connected layers. Only BatchNorm's
    running statistics follow faster, as they do in PyTorch: at 0.99 random weights take a thousand steps
    until they are right.
    size: height and width of its pictures; None for its own.
    Raises InputError for a size that it cannot take.
    """
    make = builder(spec)
    shape: tuple[int, ...] | None = None
    if size is not None:
        shape = (3, size, size) if keras.config.image_data_format() == "channels_first" else (size, size, 3)
    try:
        net = make(weights=None, classes=classes, input_shape=shape, classifier_activation=None)
    except ValueError as error:
        problem = f"{spec} takes no pictures of {size} × {size} ({first_line(error)})"
        raise InputError(f"{problem}; leave out size, or give a larger one") from error
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, _MOMENTUM)
    return net


def head_at(net: Model) -> int:
    """Return the place of the layer that gives the logits: the last with weights."""
    return max(place for place, layer in enumerate(net.layers) if layer.weights)


def with_weights(net: Model, donor: Model) -> Model:
    """Return `donor` with the head of `net`, for pictures of its size.

    The layers are those of `donor`, as Keras builds some networks differently around published weights.
    Raises ModelError where the weights before the head have other shapes.
    """
    _insist_on_same_shapes(net, donor)
    start = head_at(donor) - len(donor.layers)
    heads: dict[int, Layer] = dict(zip(map(id, donor.layers[start:]), net.layers[start:], strict=True))

    def model_of(layer: Layer) -> Layer:
        return heads.get(id(layer), layer)

    copy = rebuilt(donor, lambda layer: model_of(layer).get_config(), net.input_shape[1:])
    for own, layer in zip(copy.layers, donor.layers, strict=True):
        own.set_weights(model_of(layer).get_weights())
    return copy


def _insist_on_same_shapes(net: Model, donor: Model) -> None:
    """Raise ModelError unless the weights of two networks before their heads have the same shapes."""
    theirs, ours = (
        [
            (layer.name, [tuple(w.shape) for w in layer.weights])
            for layer in one.layers[: head_at(one)]
            if layer.weights
        ]
        for one in (donor, net)
    )
    for (name, there), (_, here) in zip(theirs, ours, strict=False):
        if there != here:
            raise ModelError(
                f"{name} has weights {there} there, and {here} here; leave out size, and check the model"
            )
    if len(theirs) != len(ours):
        raise ModelError(f"{len(theirs)} layers before the last have weights there, and {len(ours)} here")


def in_precision(net: Model, policy: str) -> Model:
    """Return a copy of a network that computes in `policy`, such as mixed_bfloat16, all but its head."""
    start = head_at(net)
    head = set(map(id, net.layers[start:]))
    copy = rebuilt(net, lambda layer: layer.get_config() | ({} if id(layer) in head else {"dtype": policy}))
    copy.set_weights(net.get_weights())
    return copy


def finished(net: Model) -> Model:
    """Return a trainable copy in single precision that ends in a softmax, as Keras' classifiers do."""
    last = net.layers[-1]

    def configured(layer: Layer) -> Json:
        softmax = {"activation": "softmax"} if layer is last else {}
        return {**layer.get_config(), "dtype": "float32", "trainable": True, **softmax}

    copy = rebuilt(net, configured)
    copy.set_weights(net.get_weights())
    return copy


def rebuilt(net: Model, configured: Callable[[Layer], Json], shape: tuple[int, ...] | None = None) -> Model:
    """Return a copy of a network with random weights, each layer made from what `configured` says of it."""

    def clone(layer: Layer) -> Layer:
        return type(layer).from_config(configured(layer))

    inputs = keras.Input(shape or net.input_shape[1:], name=net.layers[0].name)
    plain = keras.Model(net.inputs[0], net.outputs[0], name=net.name)  # without what it was compiled with
    return keras.models.clone_model(plain, input_tensors=inputs, clone_function=clone)
