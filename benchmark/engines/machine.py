"""What this machine has room for."""


def workers_fit(cores: int, threads: int, cells: int, device: str, memory: int) -> int:
    """Processes that a machine holds: one per `threads` cores and 2 GiB; one on an accelerator."""
    if device != "cpu":
        return 1
    return max(1, min(cores // max(threads, 1), memory // 2**31, cells))


def memory() -> int:
    """Bytes of memory that can be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
