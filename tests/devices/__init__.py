"""Everything that computes, on a device that is not the CPU: what comes out is what comes out there.

`asking.py` and `tuning.py` are run by `test_devices.py` in a process of their own, since a process never gets rid of a
device it has once. By hand: `VLMEND_TEST_DEVICE=fake pytest tests/devices/asking.py`.
"""
