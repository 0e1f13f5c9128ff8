"""The GPU measured: `sottovoce bench gpu`.

`compare` and `check` say whether every kernel is right on a device, `sanitizers` runs them under NVIDIA's,
`ceilings` and `timings` say how fast they are beside what the device can do, `end_to_end` starts parties on it. `run`
puts the parts in their order, each with a time budget, and writes what is known after each step.
"""
