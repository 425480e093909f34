import pytest
from pydantic import ValidationError

from mmrl.training_args import TrainingArgs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("num_generations", 0),
        ("dual_clip", 1.0),
        ("importance_range", (2.0, 5.0)),
        ("importance_correction", "tokne"),
        ("entropy_coef", -0.1),
        ("kl_coef", -0.1),
        ("lr_scheduler_type", "linaer"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        TrainingArgs.model_validate({key: value})
