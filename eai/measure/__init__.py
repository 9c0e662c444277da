"""The protocol: a sweep becomes windows, each written as it ends, none measured twice.

One job (one gpu x one model), with time running to the right::

    bare idle | block 1                                                            | block 2 ...
              | load A                                   | load C | load B         |
              | context   warm  ###### warm  ######  context
              |  idle      up   window  up   window   idle

A block holds every configuration once, in seeded random order (`jobs.job_order`), and is the replicate. Before each window the work runs
until its speed has settled or its cap is reached (flag `not_steady`); on a processor, whose tokens are timed in the window itself, work of
which one call is longer than the cap is only touched by a short one. The window repeats the work for at least `window_s` with no cold gap;
the meter's edge readings lie outside it. A configuration that cannot run becomes a row with its status and reason, and the job goes on.

    job         the loop over loads and windows, how long each part lasts, and what the work runs on
    work        what one window does, and when it may begin; a card that does not exist
"""

from eai.measure.job import run

__all__ = ["run"]
