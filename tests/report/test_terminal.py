import io

from rich.console import Console

from gsclip.metrics.table import HEADLINE_METRICS
from gsclip.report.terminal import results_table


def test_terminal_shows_the_headline_metrics_of_categories_and_means(run):
    console = Console(width=120, file=io.StringIO())
    console.print(results_table(run.metrics))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert list(HEADLINE_METRICS) in lines
    for category, figures in run.metrics["categories"].items():
        assert [category, *(f"{100 * figures[metric]['ours']:.1f}" for metric in HEADLINE_METRICS)] in lines
    for source, name in (("ours", ["mean"]), ("random", ["random", "scores"]), ("oracle", ["oracle"])):
        means = (run.metrics["mean"][metric][source] for metric in HEADLINE_METRICS)
        assert [*name, *(f"{100 * value:.1f}" for value in means)] in lines
