"""What `.keras` files say of themselves, as far as no Keras is needed to read it."""

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from helpers import one_line

from chronocam.errors import ModelError
from chronocam.models.sources.keras_files import _config
from chronocam.models.specs import ModelRequest


@pytest.mark.parametrize(
    ("config", "told"), [(" " * (2**25 + 1), "letters of JSON"), ("[1]", "a list"), ("[" * 99_999, "nested")]
)
def test_a_config_that_is_none_is_refused_before_it_is_read_whole(
    config: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.keras"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
    with pytest.raises(ModelError) as error:
        _config(path, ModelRequest(str(path), (str(path),)))
    one_line(error, "is not a saved model", told)
