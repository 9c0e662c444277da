"""Sweeps: from one sweep.yaml to many jobs on every GPU of a box or of a cluster, resumable after any kill.

    forecast    which configurations cannot run, what is left in hours, energy, cost and carbon, and what to measure in so many hours
    engine      Snakemake over the jobs that are not done, here or on Slurm: what each asks for, what runs where, and how far
    single      one job in a process of its own, which ends with whoever started it, and who works on which job
    merge       results of several machines as one experiment

The analysis is run by the coordinator and not as a rule of the workflow: Snakemake would leave it out where one job failed.
"""
