"""Under torchrun: what makes no sense is refused in a sentence, by one process of all."""

import pytest
import torch

PLACE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
RUN = ("run", "--suite", "tiny.yaml", "--offline")


@pytest.fixture
def torchrun(place, monkeypatch):
    """Give a function (rank): this process is one of two."""

    def be(rank: int) -> None:
        for name, value in {**PLACE, "TORCHELASTIC_RUN_ID": "x", "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)

    return be


@pytest.mark.parametrize(
    "words, parts",
    [
        (("--engine", "slurm"), ("torchrun", "--engine slurm", "Leave out one")),
        (("--jobs", "4"), ("torchrun", "--jobs 4", "Leave out one")),
        (("--device", "cuda:1"), ("torchrun", "--device cuda:1", "2 processes", "cpu or cuda")),
    ],
)
def test_options_that_make_no_sense(torchrun, call, words, parts):
    torchrun(0)
    said = call(*RUN, *words)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert [part for part in parts if part not in said.err] == []
    torchrun(1)
    said = call(*RUN, *words)
    assert (said.code, said.out, said.err) == (2, "", "")


def test_fewer_gpus_than_processes(torchrun, call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    torchrun(0)
    said = call(*RUN)
    assert said.code == 2 and "2 processes here, and torch sees 1 GPUs" in said.err


@pytest.mark.parametrize("words", [("plan", "--suite", "tiny.yaml"), ("study", "x"), ("doctor",)])
def test_other_commands(torchrun, call, words):
    torchrun(0)
    said = call(*words)
    assert said.code == 2 and said.out == "" and "Only `run` takes several" in said.err
