"""What a browser shows of a run, through optuna-dashboard: read only, with our constraints, readings and packages."""
