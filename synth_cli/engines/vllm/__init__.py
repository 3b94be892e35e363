"""A model run by vLLM on this machine: one `VllmWorker` is one copy of it, behind `core.ports.Worker`.

Nothing here imports vLLM before a worker is started: the settings and the table of parameters are read without it.
"""
