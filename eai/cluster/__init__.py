"""Sweeps: from one sweep.yaml to many jobs on every GPU of a box or of a cluster, resumable after any kill.

    forecast    which configurations cannot run, and what is left to do in hours, energy, cost and carbon, before anything starts
    budget      what of a sweep to measure in so many hours, by planned power
    engine      Snakemake over the jobs that are not done: one workflow, two profiles; what runs where, and how far
    slurm       what a cluster's jobs ask for, and the reaping of what a dead coordinator left there
    single      one job in a process of its own, which ends with whoever started it, and who works on which job
    merge       results of several machines as one experiment

The analysis is run by the coordinator and not as a rule of the workflow: Snakemake would leave it out where one job failed, and what the
others measured is worth a figure.
"""
