"""A notebook checks the parameters that papermill gave it; a kernel is made as new for the next notebook."""

import ast
import gc
import os
import random
import sys
import warnings

from IPython import get_ipython

from vkdlib.system.checks import check_names

TORCH_SEED = 67280421310721  # of torch in a new process
START: dict = {}  # what a kernel was like before its first notebook
INJECTED = "# Parameters\n"  # how the cell begins that papermill puts after the parameters


def check_parameters() -> None:
    """Stop if papermill gave this notebook a parameter that it does not have.

    Papermill itself would go on with the defaults. The parameters are the names in those cells that hold
    typed assignments and nothing else.

    Raises:
        ValueError: names the parameter, the nearest one and all there are.
    """
    shell = get_ipython()
    cells = shell.user_ns["In"] if shell else []  # the code that was executed so far
    known = dict.fromkeys(name for cell in cells for name in typed_names(cell))
    for cell in [cell for cell in cells if cell.startswith(INJECTED)][-1:]:
        nodes = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)]
        names = [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
        check_names("this notebook", names, known or names)


def typed_names(cell: str) -> list[str]:
    """The names in a cell of typed assignments (`beta: float = 1.0`); none if it holds anything else."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return []
    typed = all(isinstance(statement, ast.AnnAssign) for statement in body)
    return [statement.target.id for statement in body] if typed else []


def renew() -> None:
    """Make this kernel as it was before its first notebook, but for the modules that are imported.

    Names, environment, folder, paths of modules, warnings, figures and random numbers are those of a new
    process. What a notebook has put inside a module stays there.
    """
    if not START:
        START.update(folder=os.getcwd(), environment=dict(os.environ), paths=[*sys.path])
        START.update(filters=[*warnings.filters])
        return
    os.chdir(START["folder"])
    os.environ.clear()
    os.environ.update(START["environment"])
    sys.path[:] = START["paths"]
    warnings.resetwarnings()  # what was said once may be said again
    warnings.filters[:] = START["filters"]
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
        sys.modules["matplotlib"].rc_file_defaults()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(TORCH_SEED)
    get_ipython().reset()
    gc.collect()
