"""`chronocam train images`: a network for pictures, its record and its figures on held-out pictures."""

from __future__ import annotations

import json
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli.train._options import missing_extra, options_of
from chronocam.lab.train.settings import ImageSettings
from chronocam.runs.terminal import put


@click.command(
    "images",
    cls=Command,
    context_settings={"show_default": True},
    examples="""
        chronocam train images --data DIR --model vgg16 --out NET
        chronocam train images --data DIR --model keras:VGG16 --out NET
        chronocam explain photo.jpg --model NET/model.json
    """,
)
@options_of(ImageSettings)
def command(**options: Any) -> None:
    """Fine-tune a classifier, measure it, and write OUT/model.safetensors and OUT/model.json.

    DATA is a folder per class (cats, dogs), with or without folders train, validation and test above them; or
    it holds pictures named by their class (cat.0.jpg, dog.1.jpg). `chronocam explain PHOTO --model
    OUT/model.json` explains the result. A Keras network is written to OUT/model.keras instead of the weights;
    KERAS_BACKEND chooses what trains it.
    """
    settings = ImageSettings(**options)
    with missing_extra("keras,tensorflow" if settings.on_keras else "torch,video,train"):
        from chronocam.lab.train.images.start import train_images

        path = train_images(settings)
    held_out = json.loads(path.read_text(encoding="utf-8"))["held-out"]
    low, high = held_out["interval"]
    accuracy = f"accuracy {held_out['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    put(f"{accuracy} on {held_out['pictures']} held-out pictures")
    shares = {label: share for label, share in held_out["recall"].items() if share is not None}
    put(f"recall: {', '.join(f'{label} {share:.3f}' for label, share in shares.items())}")
    put(f"model: {path}")
