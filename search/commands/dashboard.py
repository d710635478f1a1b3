"""`coreml-pareto dashboard`: the run in a browser, through optuna-dashboard; read only, also while a search is at work."""

from __future__ import annotations

from typing import Annotated

import typer

from coreml_pareto.search.commands import options

_HOST = "The address to listen on; 0.0.0.0 shows the run to the whole network."
_PORT = "0 takes a free one."


def dashboard_command(
    run: options.RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help=_PORT)] = 8080,
    host: Annotated[str, typer.Option(help=_HOST)] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    storage: options.Storage = None,
) -> None:
    """Show a run in a browser: optuna-dashboard with our limits, readings, notes and packages; nothing can be changed.

    Ctrl-C ends it. A search may be at work meanwhile; its record is only read.

    Example: `coreml-pareto dashboard runs/quickstart --port 8080`
    """
    import importlib.util
    import threading
    import webbrowser

    from coreml_pareto.spaces.errors import UserError

    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UserError(
            "The dashboard is optuna-dashboard, which is not installed: pip install 'coreml-pareto[dashboard]'."
        )
    from coreml_pareto.search.dashboard.site import open_server
    from coreml_pareto.search.dashboard.view import open_view

    with open_server(open_view(run), host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{server.server_port}/dashboard"
        typer.echo(f"{run} at {address} (read only; Ctrl-C ends it)")
        if not no_browser:
            # In a thread: a browser in the terminal returns when it is left, and waits for an answer before that.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.serve_forever()
