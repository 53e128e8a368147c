"""What a worker of this machine imports as it starts: what a trial needs, and no search for garbage among modules."""

import gc

gc.disable()  # hardly any of what is imported is garbage: to look is a sixth of the time
try:
    import harness.execution.ray_backend  # noqa: F401
finally:
    gc.freeze()  # nor will it be, so no trial looks through it
    gc.enable()
