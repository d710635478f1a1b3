"""Apple devices: the catalogue, and the priors of the estimators."""

from coreml_pareto.objectives.devices.catalogue import ComputeUnits, Device, Target, devices, find_device

__all__ = ["ComputeUnits", "Device", "Target", "devices", "find_device"]
