"""`chronocam train images`: a network for pictures, its record and its figures on held-out pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from chronocam.errors import ChronocamError
from chronocam.lab.train import ImageSettings
from chronocam.lab.train.settings.video import PRECISIONS


@click.command("images", context_settings={"show_default": True})
@click.option("--data", required=True, help="Folder of pictures.")
@click.option(
    "--model", required=True, help="Classifier of torchvision, such as vgg16, or of Keras: keras:VGG16."
)
@click.option("--weights", help="File to start from, or published for the library's.  [default: random]")
@click.option("--freeze/--no-freeze", default=False, help="Train the new last layer alone.")
@click.option("--epochs", default=10, help="Times that every picture is seen.")
@click.option("--batch-size", default=16, help="Pictures in a step.")
@click.option(
    "--lr", default=1e-4, help="Highest learning rate (AdamW; a tenth of warming up, then a cosine)."
)
@click.option("--head-lr", default=10.0, help="How many times faster the new last layer learns.")
@click.option("--weight-decay", default=0.02, help="Of AdamW.")
@click.option("--size", type=int, help="Height and width of the pictures in pixels.  [default: the model's]")
@click.option("--crop", default=0.8, help="Smallest share of the sides that a training picture shows.")
@click.option(
    "--flip/--no-flip", default=True, help="Mirror half of the training pictures, left and right being alike."
)
@click.option("--images", type=int, help="At most so many pictures to train on.  [default: all]")
@click.option("--held-out", type=int, help="At most so many pictures to measure on.  [default: all]")
@click.option("--seed", default=0, help="Of weights, order, augmentation and held-out pictures.")
@click.option("--patience", type=int, help="Epochs without a better validation loss after which to stop.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="32-true", help="Of the arithmetic in training."
)
@click.option("--threads", type=int, help="Threads of the CPU.")
@click.option("--accelerator", default="auto", help="cpu, gpu, mps or auto.")
@click.option("--workers", default=0, help="Processes that decode pictures.")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder to keep decoded pictures in."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the result."
)
@click.option("--resume", is_flag=True, help="Go on where the run in OUT stopped.")
def command(**options: Any) -> None:
    """Fine-tune a classifier, measure it on held-out pictures, and write OUT/model.safetensors and OUT/model.json.

    DATA is a folder per class (cats, dogs), in folders train, validation and test or not; or holds pictures
    named by their class (cat.0.jpg, dog.1.jpg). `chronocam explain PHOTO --model OUT/model.json` explains the
    result. The network of Keras is written to OUT/model.keras in the place of the weights; KERAS_BACKEND says
    what trains it.
    """
    from chronocam.lab.train.images.run import train_images

    settings = ImageSettings(**options)
    try:
        path = train_images(settings)
    except ImportError as error:
        extras = "keras,tensorflow" if settings.on_keras else "torch,video,train"
        raise ChronocamError(f"training needs {error.name}; pip install 'chronocam[{extras}]'") from error
    held_out = json.loads(path.read_text(encoding="utf-8"))["held-out"]
    low, high = held_out["interval"]
    click.echo(
        f"accuracy {held_out['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {held_out['pictures']} held-out pictures"
    )
    recall = ", ".join(
        f"{label} {share:.3f}" for label, share in held_out["recall"].items() if share is not None
    )
    click.echo(f"recall: {recall}")
    click.echo(f"model: {path}")
