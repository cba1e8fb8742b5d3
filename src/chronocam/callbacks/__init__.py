"""Maps of fixed samples while a network is trained: callbacks for Lightning and Keras.

Importing this imports no framework; making a callback does.
"""

from chronocam.callbacks.keras import KerasCallback
from chronocam.callbacks.lightning import LightningCallback

__all__ = ["KerasCallback", "LightningCallback"]
