import argparse

from profile_step import LABEL, STEP, Cost, Event, costs_by_part, markdown

NODE = "autograd::engine::evaluate_function: ConvolutionBackward0"


def event(name: str, start: float, end: float, sequence: int = -1, thread: int = 1) -> Event:
    return Event(name, start, end, end - start, sequence, thread)


EVENTS = [
    event(LABEL + STEP, 0, 100),
    event(LABEL + "decoder", 10, 80),
    event(LABEL + "decoder.bridge", 20, 50),
    event("aten::conv2d", 22, 48, sequence=5),
    event("aten::cat", 60, 70, sequence=6),
    event("aten::mean", 90, 95, sequence=7),
    event(NODE, 200, 260, sequence=5, thread=2),
    event(NODE, 300, 310, sequence=6, thread=2),
    event(NODE, 400, 401, sequence=99, thread=2),
]


def test_time_goes_to_the_innermost_part_and_backward_to_the_part_of_its_operator() -> None:
    costs = costs_by_part(EVENTS)
    assert costs == {STEP: Cost(30, 1), "decoder": Cost(40, 10), "decoder.bridge": Cost(30, 60)}


def test_the_table_sums_modules_and_sorts_parts_by_cost() -> None:
    options = argparse.Namespace(backbone="resnet18", size=64, batch=2, precision="float32", repeats=1)
    costs = {"decoder": Cost(10, 0), "decoder.bridge": Cost(30, 40), "backbone": Cost(20, 0), "mask_head": Cost(0, 0)}
    lines = markdown(costs, options).splitlines()[4:]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == [
        "**decoder**",
        "decoder.bridge",
        "backbone",
        "decoder",
    ]
    assert lines[0] == "| **decoder** | 40.0% | 40.0% | 80.0% |"
