"""The curves of `growth`, as a small PNG."""

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL import Image

from scripts.benchmark.plan import NAMES

_COLOURS = {"sqlite": "#0b5394", "postgresql": "#b45f06"}
_PANELS: Sequence[tuple[str, str, Mapping[str, tuple[str, str]]]] = (
    ("Start until ready", "seconds", {"start": ("-", "")}),
    (
        "Memory of a worker (PSS)",
        "megabytes",
        {"pss_started": ("-", "after start"), "pss_used": ("--", "after 1,100 certificates")},
    ),
    ("Latency of a certificate", "milliseconds", {"issue_p50": ("-", "p50"), "issue_p99": ("--", "p99")}),
    (
        "Latency of an OCSP answer",
        "milliseconds",
        {
            "signed_p50": ("-", "signed, p50"),
            "signed_p99": ("--", "signed, p99"),
            "cached_p50": (":", "cached, p50"),
        },
    ),
)
_COLOURS_KEPT = 48


def draw(
    file: Path, measured: Mapping[tuple[str, int], Mapping[str, list[float]]], *, workers: int, clients: int
) -> None:
    """Draw medians as lines, the lowest and highest of the rounds as bands, certificates on a log scale."""
    figure = Figure(figsize=(10, 7.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(f"With more certificates issued: {workers} workers, {clients} clients", fontsize=13)
    for axes, (title, unit, lines) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for engine in dict.fromkeys(engine for engine, _ in measured):
            for name, (style, _) in lines.items():
                _line(axes, measured, engine, name, style)
        axes.set_title(title, fontsize=11)
        axes.set_xscale("log")
        axes.set_xlabel("certificates issued before")
        axes.set_ylabel(unit)
        sizes = sorted({size for _, size in measured})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        if unit == "milliseconds":  # a p99 would leave no room for what most see
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_ylim(1, 10 * axes.get_ylim()[1])
        else:
            axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
        axes.grid(visible=True, alpha=0.3)
        _legend(axes, [engine for engine in NAMES if any(of == engine for of, _ in measured)], lines)
    drawn = io.BytesIO()
    canvas.print_figure(drawn, format="png")
    # A palette is a third of the octets, and no eye sees the difference.
    small = Image.open(drawn).convert("RGB").quantize(_COLOURS_KEPT)
    small.save(file, optimize=True)


def _line(
    axes: Axes,
    measured: Mapping[tuple[str, int], Mapping[str, list[float]]],
    engine: str,
    name: str,
    style: str,
) -> None:
    sizes = sorted(size for of, size in measured if of == engine)
    values = [measured[engine, size][name] for size in sizes]
    medians = [statistics.median(each) for each in values]
    axes.plot(sizes, medians, style, color=_COLOURS[engine], marker="o", markersize=4)
    axes.fill_between(
        sizes,
        [min(each) for each in values],
        [max(each) for each in values],
        color=_COLOURS[engine],
        alpha=0.12,
    )


def _legend(axes: Axes, engines: Sequence[str], lines: Mapping[str, tuple[str, str]]) -> None:
    shown = [Line2D([], [], color=_COLOURS[engine], label=NAMES[engine]) for engine in engines]
    shown += [Line2D([], [], color="#555555", ls=style, label=name) for style, name in lines.values() if name]
    axes.legend(handles=shown, fontsize=8, ncols=2)
