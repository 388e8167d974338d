"""One kernel for many notebooks: torch and transformers are imported once, and what is in memory is shared.

The kernel is made as new before each notebook, see `system.notebook.renew`.
"""

import os
import threading

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

RENEW = "from vkdlib.system import notebook; notebook.renew()"


class RenewingClient(PapermillNotebookClient):
    """papermill's client, which makes the kernel as new before the first cell."""

    def papermill_execute_cells(self):
        reply = self.wait_for_reply(self.kc.execute(RENEW, silent=True))["content"]
        if reply["status"] != "ok":
            raise RuntimeError(f"the kernel could not be made as new: {reply.get('evalue')}")
        super().papermill_execute_cells()


class OneKernel(NBClientEngine):
    """papermill's engine, whose kernel stays for the next notebook."""

    manager: AsyncKernelManager | None = None

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout, on_cell_error, **others):
        """Execute a notebook in the kernel; start one if there is none."""
        cls.manager = cls.manager or AsyncKernelManager(kernel_name=kernel_name)
        options = {"startup_timeout": start_timeout, "on_cell_error": on_cell_error, "timeout": None}
        client = RenewingClient(nb_man, km=cls.manager, **options)
        printed = {} if cls.manager.has_kernel else dict.fromkeys(("stdout", "stderr"), stream_to_log())
        try:
            client.execute(**printed)
        finally:
            if client.kc:
                client.kc.stop_channels()
            if printed:
                os.close(printed["stdout"])  # the kernel has its own

    @classmethod
    def stop(cls) -> None:
        """End the kernel, if there is one."""
        manager, cls.manager = cls.manager, None
        if manager and manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)


def stream_to_log() -> int:
    """A stream for what a kernel prints beside its cells; it goes where this process prints at the time."""
    reading, writing = os.pipe()

    def pass_on() -> None:
        while text := os.read(reading, 1 << 16):
            os.write(2, text)
        os.close(reading)

    threading.Thread(target=pass_on, daemon=True).start()
    return writing


papermill_engines.register(OneKernel.__name__, OneKernel)
