"""A comparison as an HTML page that stands alone: its style and its pictures are in it, there is no script, and nothing is fetched.

It takes results, whatever they are of, and words: `page(results, title=..., words=..., notes=...)`.
"""
import io
import re
from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure
from mmgen.lab.compare import table
from mmgen.lab.findings import label
from mmgen.lab.findings import paragraph as in_words
from mmgen.lab.pictures import against_cpus, generations, held_over_time, latency_cdf
from mmgen.lab.simulate import Case, Result

STYLE = """
body { font: 15px/1.5 Georgia, serif; color: #000; background: #fff; max-width: 60em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font: 13px/1.4 sans-serif; display: block; overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #bbb; white-space: nowrap; }
th:first-child, td:first-child, td.unit { text-align: left; }
thead th { border-bottom: 2px solid #000; }
figure { margin: 1.5em 0; break-inside: avoid; } figcaption { font-size: .9em; }
svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #000; padding-left: 1em; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } table { font-size: 8pt; display: table; } h2 { break-after: avoid; } }
"""
LIMITS = (
    "It is a model in virtual time. What is the same under every policy is left out: the switch itself, TLB flushes, mm_users.",
    "There is no scheduler beyond the workload's shares: tasks do not wait for each other, and nothing is balanced but by migration.",
    "All cache lines take equally long to come from another CPU; lines that are only read are free to share.",
    "Every cost is an assumption until it is measured on the machine in question; docs/lab.md says where the defaults come from.",
    "Policies draw the same random numbers from one seed, but not for the same switches: what costs more switches later. So the "
    "workload is the same on the average, not event by event.",
)


def svg(figure: Figure, prefix: str, says: str) -> str:
    """`figure` as an svg element to put into a page: its ids begin with `prefix`, and it says what it is to who cannot see it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
    ids = {name: f"{prefix}-{number}" for number, name in enumerate(re.findall(r'\bid="([^"]+)"', text))}
    text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{ids[found[1]]}"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', lambda found: found[1] + ids[found[2]], text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(says)}" ', 1)


def pictures(results: Sequence[Result]) -> list[tuple[str, Figure]]:
    """(what it shows, the picture): of `results`, those that there is something to draw for."""
    found = []
    if len({r.case.cpus for r in results}) > 1:
        found += [("Context switches a second against CPUs.", against_cpus(results)),
                  ("What the policies cost a switch, against CPUs.", against_cpus(results, "overhead_ns_per_switch"))]
    if any(r.exits for r in results):
        found += [("How long mms waited from their last task's exit until they were freed: the share that waited no longer.",
                   latency_cdf(results)),
                  ("Mms held over time: exited, and not freed. Means of 256 equal parts of the run.", held_over_time(results))]
    found += [(f"Generations on each CPU under {label(r)}: grey is idle, hatched a kernel thread; a bar is a tick that counted, a "
               "dashed line a generation that opens, with its number and the CPU that opened it.", generations(r))
              for r in results if r.timeline is not None and r.generations]
    return found


def case_text(case: Case) -> str:
    """A case, without its policy, in words."""
    load = case.load
    tasks = "until their CPU's next tick" if load.switch_us is None else f"{load.switch_us:g} us ({load.distribution})"
    text = [f"{case.cpus:,} CPUs that tick at {case.hz} Hz, for {case.seconds:g} s of virtual time, seed {case.seed}",
            f"{load.mms} mms shared by threads on all CPUs" if load.kind == "threads" else f"{load.mms} processes on each CPU",
            f"tasks that run {tasks}"]
    if load.distribution == "bursty":
        text.append(f"one in {load.burst:g} of them {load.pause_us:g} us")
    for share, what in ((load.idle, f"of the switches go into idle, for {load.idle_us:g} us"),
                        (load.kthread, f"to a kernel thread, for {load.kthread_us:g} us"),
                        (load.exits, "of a process's switches are its exit"),
                        (load.migrate, "of the switches to a process take another CPU's")):
        if share:
            text.append(f"{100 * share:g} % {what}")
    if load.waiters:
        text.append(f"{load.waiters:,} mms that no CPU uses exit one after another")
    if load.hotplug_per_s:
        text.append(f"{load.hotplug_per_s:g} CPUs unplugged a second")
    costs = ", ".join(f"{name} {ns:,}" for name, ns in case.costs.plan().items())
    return "; ".join(text) + f". Costs in ns: {costs}. An mm that is held is {case.mm_bytes:,} bytes."


def html_table(rows: Sequence[Sequence[str]], units: bool = False) -> str:
    """The rows, of which the first is the header, as a table; units: the second column is one of units."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "\n".join(f'<tr><th scope="row">{escape(name)}</th>' + "".join(
        f'<td class="unit">{escape(cell)}</td>' if units and number == 0 else f"<td>{escape(cell)}</td>"
        for number, cell in enumerate(cells)) + "</tr>" for name, *cells in rows[1:])
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def page(results: Sequence[Result], *, title: str, words: str = "", command: str = "", notes: Sequence[str] = (),
         limits: Sequence[str] = LIMITS, tables: Sequence[tuple[str, Sequence[Sequence[str]]]] = (),
         lists: Sequence[tuple[str, Sequence[str]]] = (), drawn: Sequence[tuple[str, Figure]] | None = None) -> str:
    """The HTML page.

    words: what was run; "": it is said where all results are of a Case. command: what makes it again. notes: more to know about how it
    came about, a sentence each; `limits`, the model's own by default, follow. tables: (heading, rows, of which the first is the header) and
    lists: (heading, lines), more of both beside the figures of the policies. drawn: (caption, picture); None: those that pictures() finds.
    ValueError for no results. Thread-safety: as many at a time as you like.
    """
    rows = table(results)
    paragraph = in_words(results)
    if not words and all(isinstance(r.case, Case) for r in results):
        words = case_text(results[0].case)
    figures = html_table([["figure", "unit", *rows[0][2:]], *rows[1:]], units=True)
    more = "".join(f"<h2>{escape(heading)}</h2>\n{html_table(own)}\n" for heading, own in tables)
    more += "".join(f"<h2>{escape(heading)}</h2>\n<pre>{escape(chr(10).join(lines))}</pre>\n" for heading, lines in lists)
    shows = "\n".join(f"<figure>{svg(figure, f'picture{number}', says)}<figcaption>{escape(says)}</figcaption></figure>"
                      for number, (says, figure) in enumerate(pictures(results) if drawn is None else drawn))
    known = "\n".join(f"<li>{escape(note)}</li>" for note in (*notes, *limits))
    again = f"<h2>To make it again</h2>\n<pre>{escape(command)}</pre>\n" if command else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(words)}</p>
<h2>What it comes to</h2>
<p id="paragraph">{escape(paragraph)}</p>
{more}<h2>Figures</h2>
{figures}
<h2>Pictures</h2>
{shows}
{again}<h2>What to know</h2>
<ul>
{known}
</ul>
</body>
</html>
"""
