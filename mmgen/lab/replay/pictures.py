"""Pictures of a replay, by matplotlib, as those of the lab: how long waits take, and what the generations did while the longest lasted."""
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from mmgen.lab.pictures import generations, held_over_time, latency_cdf, legend, log_axis, new, style, time_text
from mmgen.lab.replay.replay import Replay


def waits_cdf(replay: Replay) -> Figure:
    """How long a wait takes that begins at any moment, alone: the share of moments from which it takes no longer, a line for each rule.

    ValueError where there is no idle rule.
    """
    if not replay.waits:
        raise ValueError("no waits: the recording was replayed under no generation policy")
    figure, axes = new()
    least = float("inf")
    for found in replay.waits:
        ns, _ = found.distribution
        least = min(least, *(float(t) for t in ns[ns > 0][:1]), 1e9 / replay.trace.hz)
    for number, found in enumerate(replay.waits):
        ns, below = found.distribution
        # What takes no time is beyond the left edge, where the line begins at its share.
        drawn = ns.copy()
        drawn[drawn < least] = least
        axes.plot(drawn, below / max(found.ns, 1), label=found.idle, **style(number) | {"marker": ""})
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    log_axis(axes.xaxis, time_text)
    axes.axvline(1e9 / replay.trace.hz, color="0.6", linewidth=0.8)
    axes.annotate(" a tick", (1e9 / replay.trace.hz, 0.02), fontsize=8, color="0.4")
    axes.set(xlabel="how long a wait takes, alone", ylabel="share of all moments")
    legend(axes, len(replay.waits))
    return figure


def drawn(replay: Replay) -> list[tuple[str, Figure]]:
    """(what it shows, the picture): those that there is something to draw for."""
    found: list[tuple[str, Figure]] = []
    if replay.waits:
        found.append((f"How long a wait takes that begins at any moment of {replay.trace.name}, with nobody else waiting, under each "
                      "idle rule.", waits_cdf(replay)))
    results = replay.results
    if any(r.frees for r in results):
        found += [("How long mms waited from their teardown until they were freed: the share that waited no longer.",
                   latency_cdf(results)),
                  ("Mms held over time: torn down, and not freed. Means of 256 equal parts of the recording.", held_over_time(results))]
    found += [(f"Generations on each CPU under generation {r.case.policy.idle}: grey is idle, hatched a kernel thread; a bar is a tick "
               "that counted, a dashed line a generation that opens, with its number and the CPU that opened it.", generations(r))
              for r in results if r.timeline is not None and r.timeline.of("opened") and hasattr(r.case.policy, "idle")]
    return found
