import pytest

from mmrl import launched


def told(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in (*launched.COUNT, *launched.RANK, *launched.LOCAL, "MASTER_ADDR", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_plain_start_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, WORLD_SIZE="4")  # as clusters set it in every shell
    assert launched.processes() == 1
    assert launched.is_first()
    assert launched.is_first_here()
    assert launched.refused() is None


def test_torchrun_and_mpi_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, WORLD_SIZE="4", RANK="2", LOCAL_RANK="0")
    assert (launched.processes(), launched.is_first(), launched.is_first_here()) == (4, False, True)
    told(monkeypatch, OMPI_COMM_WORLD_SIZE="3", OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_LOCAL_RANK="0")
    assert (launched.processes(), launched.is_first(), launched.is_first_here()) == (3, True, True)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "--use_deepspeed"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP version 1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "--fsdp_offload_params"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "--mixed_precision"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "one process where more were asked for"),
    ],
)
def test_what_no_run_does_is_refused(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str) -> None:
    told(monkeypatch, **variables)
    assert (launched.refused() or "").startswith(why)


def test_what_every_run_does_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2", FSDP_OFFLOAD_PARAMS="false",
         ACCELERATE_MIXED_PRECISION="no")  # fmt: skip
    assert launched.fsdp()
    assert launched.refused() is None
