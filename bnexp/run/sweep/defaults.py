"""What a sweep does unless it is told otherwise. The command line shows it, and must not import what trains."""

CONFIRMED, FRESH_SEEDS = 3, 6  # points that are trained again, and the seeds of each: with six, a pair can be told apart
