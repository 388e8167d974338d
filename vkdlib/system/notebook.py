"""A notebook checks the parameters that papermill gave it."""

import ast

from IPython import get_ipython

from vkdlib.system.checks import check_names

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
