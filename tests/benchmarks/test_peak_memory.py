import torch

from peak_memory import Peak, in_child, middle, peak_of, rises

CPU = torch.device("cpu")


def test_a_peak_counts_what_the_work_held_and_let_go_again():
    peak = peak_of(lambda: torch.ones(50_000_000 // 4).sum(), CPU)
    assert 45 < peak.rise < 80


def test_what_was_held_and_freed_before_the_work_does_not_count():
    torch.ones(200_000_000 // 4).sum()
    assert peak_of(lambda: None, CPU).rise < 20


def test_a_child_answers_by_its_last_line(tmp_path):
    script = tmp_path / "child.py"
    script.write_text("import sys; print('noise'); print([1.0, float(sys.argv[1])])", encoding="utf-8")
    assert in_child([str(script), "3"]) == Peak(1.0, 3.0)


def test_the_middle_of_peaks_is_the_median_rise_whatever_was_held_before():
    peaks = [Peak(100, 130), Peak(0, 10), Peak(50, 70)]
    assert middle(peaks) == Peak(50, 70)
    assert rises(peaks) == "20 (10-30)"
