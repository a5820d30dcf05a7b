"""A recorded machine, replayed under each policy of the lab: what each costs there, and how long waits take. docs/replay.md tells it."""
from mmgen.lab.replay.replay import Arrivals, RecordedCase, Replay, idealised, policies, replay, with_timelines
from mmgen.lab.replay.steps import Steps, What, steps_of
from mmgen.lab.replay.waits import Holdout, Long, Waits, by_what, holdouts, longest, waits

__all__ = ["Arrivals", "Holdout", "Long", "RecordedCase", "Replay", "Steps", "Waits", "What", "by_what", "holdouts", "idealised", "longest",
           "policies", "replay", "steps_of", "waits", "with_timelines"]
