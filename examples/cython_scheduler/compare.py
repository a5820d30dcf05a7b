"""Grace periods on a machine of 8 CPUs, by how often it switches."""
import statistics

from scheduler import simulate

for slice_us in (500, 5_000, 50_000):
    took = simulate(cpus=8, seconds=10, slice_us=slice_us)
    print(f"slices of {slice_us / 1000:4.1f} ms: {len(took):4} grace periods, median {statistics.median(took) / 4000:5.1f} ticks")
