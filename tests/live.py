"""A service within this process, on a free port of this machine."""

import contextlib
import socket
import threading

import uvicorn


@contextlib.contextmanager
def live(app):
    """Serve an app while the block runs; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    ) as listening:  # of which asyncio sends at once
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)  # before it is served: nobody need wait
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
