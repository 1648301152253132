"""A web page that runs exported models in a browser."""
