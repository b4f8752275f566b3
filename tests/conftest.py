"""What holds for all tests: how fast examples are made or run says how busy the machine is, and nothing of the code."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
