"""What a worker of this machine imports as it starts: what a trial needs, and no search for garbage among modules."""

import gc

gc.disable()  # of what is imported, nothing is garbage: to look is a sixth of the time

import harness.execution.ray_backend  # noqa: E402, F401

gc.freeze()  # nor will it be, so no trial looks through it
gc.enable()
