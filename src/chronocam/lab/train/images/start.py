"""Training on pictures, with the framework that the network is of."""

from __future__ import annotations

from pathlib import Path

from chronocam.lab.train.settings import ImageSettings


def train_images(settings: ImageSettings) -> Path:
    """Train a network for pictures and return the path of its record, `OUT/model.json`.

    Beside it lie the weights of the epoch with the lowest validation loss: `OUT/model.safetensors` or, for a
    Keras network, `OUT/model.keras`. `OUT/checkpoints` holds what a later run with `resume` continues from;
    it ends where an uninterrupted one would have. The record holds what `chronocam.models.load` needs, the
    command, and the figures on held-out pictures. A picture that cannot be read is skipped and named. Raises
    ChronocamError for settings that do not fit the data, the network or the machine.

    Example:
        >>> for i in range(20):
        ...     cc.media.write_image(f"pets/{['cat', 'dog'][i % 2]}/{i}.png", np.full((40, 40, 3), i, "u1"))
        >>> settings = cc.train.ImageSettings("pets", "squeezenet1_1", Path("net"), epochs=1, size=40)
        >>> cc.train.train_images(settings).name
        'model.json'
    """
    if settings.on_keras:
        from chronocam.lab.train.images.on_keras import KerasImagesRun

        return KerasImagesRun(settings).completed()
    from chronocam.lab.train.images.on_torch import TorchImagesRun

    return TorchImagesRun(settings).completed()
