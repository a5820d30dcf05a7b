"""A recorded machine, replayed under each policy of the lab."""
