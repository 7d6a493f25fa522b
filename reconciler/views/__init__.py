"""Plan → text, in the formats that `show` knows. Views see the plan and nothing else."""
